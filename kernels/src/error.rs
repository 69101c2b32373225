//! The one error of this crate.

use core::fmt;

use thiserror::Error;

/// Why a kernel refuses its arguments.
///
/// Arguments are checked before anything is written, unless a variant says otherwise.
/// `Debug` prints the same text as `Display`, because a program whose `main` returns the error prints that.
#[derive(Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KernelError {
    /// A slice has another length than its shape asks for.
    #[error("{what}: expected {expected} elements, found {found}")]
    Length {
        /// Which argument.
        what: &'static str,
        /// The length that its shape asks for.
        expected: usize,
        /// The length that it has.
        found: usize,
    },
    /// A view has another shape than the product asks for.
    #[error("{what}: {}", shapes(what, expected, found))]
    Shape {
        /// Which argument.
        what: &'static str,
        /// Rows and columns asked for.
        expected: [usize; 2],
        /// Rows and columns of the view.
        found: [usize; 2],
    },
    /// Elements of a view lie outside of its slice.
    #[error("the view needs {needed} elements, the slice has {found}")]
    OutOfBounds {
        /// Elements of the slice up to the view's last one.
        needed: usize,
        /// Elements of the slice.
        found: usize,
    },
    /// A view that is written to has two indices for the same element.
    #[error("elements of the view overlap; a view that is written to needs distinct ones")]
    Overlap,
    /// A product of sizes does not fit `usize`.
    #[error("{what}: the size overflows")]
    Overflow {
        /// Which size.
        what: &'static str,
    },
    /// The weights were prepared without `PrepareOptions::input_gradient`.
    #[error("the weights were prepared without the input gradient; set PrepareOptions::input_gradient")]
    NoInputGradient,
    /// The weights were prepared without `PrepareOptions::keep_source`, so the mask cannot be changed.
    #[error(
        "the removed weights were dropped, so no other mask can be set; prepare with PrepareOptions::keep_source"
    )]
    NoSource,
    /// A score is NaN. The masks keep nothing afterwards.
    #[error("score {index} of layer {layer} is NaN")]
    NotANumber {
        /// Its layer; 0 in a selection over one slice.
        layer: usize,
        /// Its index in the layer.
        index: usize,
    },
    /// An input is infinite or NaN.
    #[error("{what} {index} is not finite")]
    NotFinite {
        /// Which argument.
        what: &'static str,
        /// Its index there.
        index: usize,
    },
    /// An argument is outside of its range.
    #[error("{what} must be {allowed}, found {found}")]
    OutOfRange {
        /// Which argument.
        what: &'static str,
        /// What it may be, as "at least 1".
        allowed: &'static str,
        /// What it is.
        found: String,
    },
    /// More scores are to be kept than there are.
    #[error("cannot keep {keep} of {len} scores")]
    KeepTooLarge {
        /// How many should be kept.
        keep: usize,
        /// How many there are.
        len: usize,
    },
    /// The number of weights of a mask differs from the number of its layer's scores.
    #[error("layer {layer} has {scores} scores, but a mask over {mask}")]
    MaskLength {
        /// Which layer; 0 in a selection over one slice.
        layer: usize,
        /// Number of scores.
        scores: usize,
        /// Length of the mask.
        mask: usize,
    },
    /// There is not one mask for each layer.
    #[error("{layers} layers of scores, but {masks} masks")]
    MaskCount {
        /// Number of layers.
        layers: usize,
        /// Number of masks.
        masks: usize,
    },
    /// Indices of scores do not fit 32 bits.
    #[error("{len} scores are more than the 2^32 - 1 that can be selected from")]
    TooManyScores {
        /// How many there are.
        len: usize,
    },
    /// There is nothing to choose a subset from.
    #[error("there are no candidates")]
    NoCandidates,
    /// There are more candidates than the method takes.
    #[error("{found} candidates, at most {limit} are possible here")]
    TooManyCandidates {
        /// How many there are.
        found: usize,
        /// The most that the method takes.
        limit: usize,
    },
    /// The bitonic networks do not take these arguments.
    #[error("the bitonic networks take epsilon = 0, subsets of any size and at most 30 candidates")]
    NotByBitonic,
    /// A plane of a convolution has too many elements for 32-bit offsets.
    #[error("{what}: {found} elements, at most {limit} are possible")]
    PlaneTooLarge {
        /// Which plane.
        what: &'static str,
        /// The most that are possible.
        limit: usize,
        /// How many it has.
        found: usize,
    },
    /// The bytes are not a valid encoding.
    #[error("{what}: malformed bytes: {why}")]
    Malformed {
        /// What was read.
        what: &'static str,
        /// What is wrong with the bytes.
        why: &'static str,
    },
    /// No backend of that name exists in this build.
    #[error("unknown backend `{name}`; this machine has: {available}")]
    UnknownBackend {
        /// The name asked for.
        name: String,
        /// The backends of this machine, best first, separated by commas.
        available: String,
    },
    /// The backend exists, but this CPU lacks its instructions.
    #[error("this CPU has no `{name}`; it has: {available}")]
    UnavailableBackend {
        /// The name asked for.
        name: String,
        /// The backends of this machine, best first, separated by commas.
        available: String,
    },
}

impl fmt::Debug for KernelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl KernelError {
    /// A number for this kind of error, for callers that cannot match on it. It never changes its meaning; 0 is not used.
    ///
    /// ```
    /// use slth_kernels::MatRef;
    /// assert_eq!(MatRef::row_major(&[1.0; 5], 2, 3).unwrap_err().code(), 1);
    /// ```
    pub fn code(&self) -> u32 {
        match self {
            Self::Length { .. } => 1,
            Self::Shape { .. } => 2,
            Self::OutOfBounds { .. } => 3,
            Self::Overlap => 4,
            Self::Overflow { .. } => 5,
            Self::NoInputGradient => 6,
            Self::NoSource => 7,
            Self::NotANumber { .. } => 8,
            Self::NotFinite { .. } => 9,
            Self::OutOfRange { .. } => 10,
            Self::KeepTooLarge { .. } => 11,
            Self::MaskLength { .. } => 12,
            Self::MaskCount { .. } => 13,
            Self::TooManyScores { .. } => 14,
            Self::NoCandidates => 15,
            Self::TooManyCandidates { .. } => 16,
            Self::NotByBitonic => 17,
            Self::PlaneTooLarge { .. } => 18,
            Self::Malformed { .. } => 19,
            Self::UnknownBackend { .. } => 20,
            Self::UnavailableBackend { .. } => 21,
        }
    }

    /// The error for an argument outside of its range.
    pub(crate) fn out_of_range(what: &'static str, allowed: &'static str, found: impl fmt::Display) -> Self {
        Self::OutOfRange { what, allowed, found: found.to_string() }
    }

    /// The product of `sizes`.
    pub(crate) fn product(
        what: &'static str,
        sizes: impl IntoIterator<Item = usize>,
    ) -> Result<usize, KernelError> {
        let product = sizes.into_iter().try_fold(1_usize, |n, size| n.checked_mul(size));
        product.ok_or(KernelError::Overflow { what })
    }

    /// Checks that `found` elements are the product of `shape`.
    pub(crate) fn check_len(what: &'static str, shape: &[usize], found: usize) -> Result<(), KernelError> {
        let expected = Self::product(what, shape.iter().copied())?;
        if expected == found { Ok(()) } else { Err(KernelError::Length { what, expected, found }) }
    }

    /// Checks the rows and columns of a view.
    pub(crate) fn check_shape(
        what: &'static str,
        expected: [usize; 2],
        found: [usize; 2],
    ) -> Result<(), KernelError> {
        if expected == found { Ok(()) } else { Err(KernelError::Shape { what, expected, found }) }
    }
}

/// What was expected of a view, and a question where its rows and columns seem to be exchanged.
fn shapes(what: &str, expected: &[usize; 2], found: &[usize; 2]) -> String {
    let ([rows, cols], [r, c]) = (*expected, *found);
    // A product's batch is that of its first operand, of which only the other size can be wrong.
    let decides = matches!(what, "x" | "dy");
    let (expected, exchanged) = match (rows == r, cols == c) {
        (false, true) => (format!("{rows} rows"), decides && rows == c),
        (true, false) => (format!("{cols} columns"), decides && cols == r),
        _ => (format!("{rows} x {cols}"), [rows, cols] == [c, r]),
    };
    let question = if exchanged { "; is it transposed?" } else { "" };
    format!("expected {expected}, found {r} x {c}{question}")
}

#[cfg(test)]
mod tests {
    use super::KernelError as E;

    /// Callers in other languages compare error codes, so published codes must not change.
    #[test]
    fn codes_keep_their_meaning() {
        let (what, name, available) = ("", String::new(), String::new());
        let codes = [
            (E::Length { what, expected: 0, found: 0 }, 1),
            (E::Shape { what, expected: [0; 2], found: [0; 2] }, 2),
            (E::OutOfBounds { needed: 0, found: 0 }, 3),
            (E::Overlap, 4),
            (E::Overflow { what }, 5),
            (E::NoInputGradient, 6),
            (E::NoSource, 7),
            (E::NotANumber { layer: 0, index: 0 }, 8),
            (E::NotFinite { what, index: 0 }, 9),
            (E::OutOfRange { what, allowed: "", found: name.clone() }, 10),
            (E::KeepTooLarge { keep: 0, len: 0 }, 11),
            (E::MaskLength { layer: 0, scores: 0, mask: 0 }, 12),
            (E::MaskCount { layers: 0, masks: 0 }, 13),
            (E::TooManyScores { len: 0 }, 14),
            (E::NoCandidates, 15),
            (E::TooManyCandidates { found: 0, limit: 0 }, 16),
            (E::NotByBitonic, 17),
            (E::PlaneTooLarge { what, found: 0, limit: 0 }, 18),
            (E::Malformed { what, why: "" }, 19),
            (E::UnknownBackend { name: name.clone(), available: available.clone() }, 20),
            (E::UnavailableBackend { name, available }, 21),
        ];
        assert!(codes.iter().all(|(error, code)| error.code() == *code));
    }

    #[test]
    fn exchanged_rows_and_columns_are_asked_about() {
        let text = |what, expected, found| E::Shape { what, expected, found }.to_string();
        assert_eq!(
            text("x", [784, 784], [32, 784]),
            "x: expected 784 rows, found 32 x 784; is it transposed?"
        );
        assert_eq!(text("x", [784, 32], [783, 32]), "x: expected 784 rows, found 783 x 32");
        // As C gives shapes, batch first.
        assert_eq!(
            text("x", [784, 784], [784, 32]),
            "x: expected 784 columns, found 784 x 32; is it transposed?"
        );
        assert_eq!(text("y", [16, 16], [15, 16]), "y: expected 16 rows, found 15 x 16");
        assert_eq!(text("y", [16, 10], [10, 16]), "y: expected 16 x 10, found 10 x 16; is it transposed?");
        assert_eq!(format!("{:?}", E::NoCandidates), "there are no candidates");
    }
}
