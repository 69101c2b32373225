//! Status and version
//!
//! Calls return a status for the program, keep a message for people, and never panic.

use core::any::Any;
use core::cell::UnsafeCell;
use core::ffi::{CStr, c_char};
use core::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use slth_kernels::KernelError;

/// What a call returns: SLTH_OK, or why it did nothing. A number never changes its meaning; later versions may return others.
pub type slth_status = u32;

/// The call did what it is for.
pub const SLTH_OK: slth_status = 0;
/// An array has another length than its shape asks for.
pub const SLTH_LENGTH: slth_status = 1;
/// A matrix or an image has another shape than the call asks for.
pub const SLTH_SHAPE: slth_status = 2;
/// Elements lie outside of their array.
pub const SLTH_OUT_OF_BOUNDS: slth_status = 3;
/// A matrix that is written has two indices for the same element.
pub const SLTH_OVERLAP: slth_status = 4;
/// Sizes or strides do not fit memory.
pub const SLTH_OVERFLOW: slth_status = 5;
/// The weights were prepared without SLTH_INPUT_GRADIENT.
pub const SLTH_NO_INPUT_GRADIENT: slth_status = 6;
/// The weights were prepared with SLTH_DROP_SOURCE.
pub const SLTH_NO_SOURCE: slth_status = 7;
/// A score is NaN.
pub const SLTH_NOT_A_NUMBER: slth_status = 8;
/// An input is infinite or NaN.
pub const SLTH_NOT_FINITE: slth_status = 9;
/// An argument is outside of its range.
pub const SLTH_OUT_OF_RANGE: slth_status = 10;
/// More scores are to be kept than there are.
pub const SLTH_KEEP_TOO_LARGE: slth_status = 11;
/// A mask is over another number of weights than there are scores.
pub const SLTH_MASK_LENGTH: slth_status = 12;
/// There is not one mask for each layer.
pub const SLTH_MASK_COUNT: slth_status = 13;
/// There are 2^32 scores or more.
pub const SLTH_TOO_MANY_SCORES: slth_status = 14;
/// There is nothing to choose a subset from.
pub const SLTH_NO_CANDIDATES: slth_status = 15;
/// There are more candidates than the method takes.
pub const SLTH_TOO_MANY_CANDIDATES: slth_status = 16;
/// The bitonic networks take epsilon = 0, any size and at most 30 candidates.
pub const SLTH_NOT_BY_BITONIC: slth_status = 17;
/// A plane of a convolution has 2^32 elements or more.
pub const SLTH_PLANE_TOO_LARGE: slth_status = 18;
/// Bytes do not hold what they are read as.
pub const SLTH_MALFORMED: slth_status = 19;
/// No backend of that name exists.
pub const SLTH_UNKNOWN_BACKEND: slth_status = 20;
/// This CPU lacks the backend's instructions.
pub const SLTH_UNAVAILABLE_BACKEND: slth_status = 21;
/// A pointer that is needed is NULL.
pub const SLTH_NULL_POINTER: slth_status = 1000;
/// A pointer is not aligned for what it points to.
pub const SLTH_MISALIGNED: slth_status = 1001;
/// Memory that is written overlaps other memory of the call, or may.
pub const SLTH_ALIASED: slth_status = 1002;
/// Another thread is using a handle that one thread at a time may use.
pub const SLTH_BUSY: slth_status = 1003;
/// A structure's `size` is not its sizeof, or it has a field that this version does not know.
pub const SLTH_STRUCT_SIZE: slth_status = 1004;
/// A defect of the library; of a handle that was being changed only slth_..._free is left.
pub const SLTH_PANIC: slth_status = 1005;

/// What a status means, in a few words: a text that is never freed. For a status of a later version, a text that says so.
#[unsafe(no_mangle)]
pub extern "C" fn slth_status_message(status: slth_status) -> *const c_char {
    message_of(status).as_ptr()
}

fn message_of(status: slth_status) -> &'static CStr {
    match status {
        SLTH_OK => c"no error",
        SLTH_LENGTH => c"an array has another length than its shape asks for",
        SLTH_SHAPE => c"a matrix or an image has another shape than the call asks for",
        SLTH_OUT_OF_BOUNDS => c"elements lie outside of their array",
        SLTH_OVERLAP => c"a matrix that is written has two indices for the same element",
        SLTH_OVERFLOW => c"sizes or strides do not fit memory",
        SLTH_NO_INPUT_GRADIENT => c"the weights were prepared without SLTH_INPUT_GRADIENT",
        SLTH_NO_SOURCE => c"the weights were prepared with SLTH_DROP_SOURCE",
        SLTH_NOT_A_NUMBER => c"a score is NaN",
        SLTH_NOT_FINITE => c"an input is infinite or NaN",
        SLTH_OUT_OF_RANGE => c"an argument is out of range",
        SLTH_KEEP_TOO_LARGE => c"more scores are to be kept than there are",
        SLTH_MASK_LENGTH => c"a mask is over another number of weights than there are scores",
        SLTH_MASK_COUNT => c"there is not one mask for each layer",
        SLTH_TOO_MANY_SCORES => c"there are 2^32 scores or more",
        SLTH_NO_CANDIDATES => c"there are no candidates",
        SLTH_TOO_MANY_CANDIDATES => c"there are more candidates than the method takes",
        SLTH_NOT_BY_BITONIC => {
            c"the bitonic networks take epsilon = 0, subsets of any size and at most 30 candidates"
        }
        SLTH_PLANE_TOO_LARGE => c"a plane of a convolution has 2^32 elements or more",
        SLTH_MALFORMED => c"malformed bytes",
        SLTH_UNKNOWN_BACKEND => c"unknown backend",
        SLTH_UNAVAILABLE_BACKEND => c"this CPU lacks the backend's instructions",
        SLTH_NULL_POINTER => c"a pointer that is needed is NULL",
        SLTH_MISALIGNED => c"a pointer is not aligned",
        SLTH_ALIASED => c"memory that is written overlaps other memory of the call",
        SLTH_BUSY => c"another thread is using the handle",
        SLTH_STRUCT_SIZE => {
            c"a structure's size is not its sizeof, or it has a field that this version does not know"
        }
        SLTH_PANIC => c"a defect of the library was caught",
        _ => c"a status that this version does not know",
    }
}

/// What went wrong in the last call of this thread that failed: which argument, what was expected, what was found. An empty
/// text if none has failed. The pointer is always the same one on a thread, and valid until the thread ends; the next call of
/// this thread that fails replaces the text. Read it in a statement after the call: within one expression C may evaluate either
/// first.
#[unsafe(no_mangle)]
pub extern "C" fn slth_last_error() -> *const c_char {
    // Without the thread's storage, which is gone at its very end, there is no last error either.
    LAST_ERROR.try_with(|last| last.get().cast::<c_char>().cast_const()).unwrap_or(c"".as_ptr())
}

/// Bytes of an error's text with its zero byte; a longer one is cut.
const MOST_TEXT: usize = 512;

thread_local! {
    /// Without a destructor: a pointer to it stays valid for as long as the thread.
    static LAST_ERROR: UnsafeCell<[u8; MOST_TEXT]> = const { UnsafeCell::new([0; MOST_TEXT]) };
}

/// Replaces the text of this thread's last error.
fn set_last_error(text: &str) {
    let mut len = text.len().min(MOST_TEXT - 1);
    while !text.is_char_boundary(len) {
        len -= 1;
    }
    let mut bytes = [0; MOST_TEXT];
    bytes[..len].copy_from_slice(&text.as_bytes()[..len]);
    // A zero byte would end the text.
    bytes[..len].iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = b' ');
    // SAFETY: of this thread alone, and nothing of this library holds a reference to it.
    _ = LAST_ERROR.try_with(|last| unsafe { *last.get() = bytes });
}

/// Why a call did nothing.
#[derive(Debug)]
pub(crate) enum Failure {
    Kernel(KernelError),
    NullPointer {
        what: &'static str,
    },
    Misaligned {
        what: &'static str,
    },
    Aliased {
        written: &'static str,
        other: &'static str,
    },
    /// Two arrays of a call over layers share memory, and at least the first is written to.
    AliasedLayers {
        written: (usize, &'static str),
        other: (usize, &'static str),
    },
    Busy {
        what: &'static str,
    },
    StructSize {
        what: &'static str,
        known: usize,
        found: usize,
    },
    UnknownField {
        what: &'static str,
        known: usize,
    },
    /// Of one of several layers.
    OfLayer {
        index: usize,
        failure: Box<Failure>,
    },
    /// A handle that an earlier call broke off changing.
    Broken {
        what: &'static str,
    },
    Panic {
        message: String,
    },
}

impl Failure {
    pub(crate) fn out_of_range(what: &'static str, allowed: &'static str, found: impl fmt::Display) -> Self {
        Self::Kernel(KernelError::OutOfRange { what, allowed, found: found.to_string() })
    }

    pub(crate) fn overflow(what: &'static str) -> Self {
        Self::Kernel(KernelError::Overflow { what })
    }

    fn status(&self) -> slth_status {
        match self {
            Self::Kernel(error) => error.code(),
            Self::NullPointer { .. } => SLTH_NULL_POINTER,
            Self::Misaligned { .. } => SLTH_MISALIGNED,
            Self::Aliased { .. } | Self::AliasedLayers { .. } => SLTH_ALIASED,
            Self::Busy { .. } => SLTH_BUSY,
            Self::StructSize { .. } | Self::UnknownField { .. } => SLTH_STRUCT_SIZE,
            Self::OfLayer { failure, .. } => failure.status(),
            Self::Broken { .. } | Self::Panic { .. } => SLTH_PANIC,
        }
    }
}

impl From<KernelError> for Failure {
    fn from(error: KernelError) -> Self {
        Self::Kernel(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The kernels' texts name what Rust programs would set.
            Self::Kernel(KernelError::NoInputGradient) => {
                f.write_str("the weights were prepared without the input gradient; set SLTH_INPUT_GRADIENT in options.flags")
            }
            Self::Kernel(KernelError::NoSource) => {
                f.write_str("the removed weights were dropped, so no other mask can be set; prepare without SLTH_DROP_SOURCE")
            }
            Self::Kernel(KernelError::OutOfRange { what: "sizes", allowed, found }) => {
                write!(f, "search.exactly must be {allowed}, found {found}")
            }
            Self::Kernel(error) => error.fmt(f),
            Self::NullPointer { what } => write!(f, "{what} is NULL"),
            Self::Misaligned { what } => write!(f, "{what} is not aligned"),
            Self::Aliased { written, other } => {
                write!(f, "{written} is written to, and its memory overlaps that of {other}")
            }
            Self::AliasedLayers { written, other } => {
                let ([(i, written), (j, other)], text) = ([written, other], "is written to, and its memory overlaps that of");
                write!(f, "layers[{i}].{written} {text} layers[{j}].{other}")
            }
            Self::Busy { what } => write!(
                f,
                "another thread is using {what}: give each thread its own, or call when the other call has returned"
            ),
            Self::OfLayer { index, failure } => write!(f, "layers[{index}].{failure}"),
            Self::StructSize { what, known, found } => {
                write!(f, "{what}: size is {found}, and sizeof gives {known}; set size")
            }
            Self::UnknownField { what, known } => {
                write!(f, "{what}: a field past the {known} bytes that this version has is not 0")
            }
            Self::Broken { what } => write!(f, "an earlier call failed while it changed {what}"),
            Self::Panic { message } => write!(f, "a defect of the library: {message}"),
        }
    }
}

/// Runs a call. A failure becomes its status and the thread's last error, and so does a panic: none unwinds into C.
pub(crate) fn guard(call: impl FnOnce() -> Result<(), Failure>) -> slth_status {
    let failure = match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(())) => return SLTH_OK,
        Ok(Err(failure)) => failure,
        Err(payload) => Failure::Panic { message: text_of(payload) },
    };
    set_last_error(&failure.to_string());
    failure.status()
}

fn text_of(payload: Box<dyn Any + Send>) -> String {
    let message = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(message), _) => (*message).to_owned(),
        (_, Some(message)) => message.clone(),
        _ => "a panic".to_owned(),
    };
    // Dropping a payload of another type could panic once more.
    core::mem::forget(payload);
    message
}

/// The version of the library, after Semantic Versioning: a text that is never freed.
#[unsafe(no_mangle)]
pub extern "C" fn slth_version() -> *const c_char {
    VERSION.as_ptr()
}

/// The binary interface that this header describes.
pub const SLTH_ABI_VERSION: u32 = 1;

/// The binary interface of the library: a program that was compiled with another SLTH_ABI_VERSION cannot use it. Also the
/// number in libslth.so.1, so that the linker finds the right one.
#[unsafe(no_mangle)]
pub extern "C" fn slth_abi_version() -> u32 {
    SLTH_ABI_VERSION
}

const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
    Ok(version) => version,
    Err(_) => panic!("a version has no zero byte"),
};

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: *const c_char) -> String {
        // SAFETY: every text of this library ends with a zero byte.
        unsafe { CStr::from_ptr(text) }.to_str().unwrap().to_owned()
    }

    #[test]
    fn statuses_are_the_kernels_codes() {
        let (what, name, available) = ("x", String::new(), String::new());
        let errors = [
            (SLTH_LENGTH, KernelError::Length { what, expected: 1, found: 2 }),
            (SLTH_SHAPE, KernelError::Shape { what, expected: [1, 1], found: [2, 2] }),
            (SLTH_OUT_OF_BOUNDS, KernelError::OutOfBounds { needed: 2, found: 1 }),
            (SLTH_OVERLAP, KernelError::Overlap),
            (SLTH_OVERFLOW, KernelError::Overflow { what }),
            (SLTH_NO_INPUT_GRADIENT, KernelError::NoInputGradient),
            (SLTH_NO_SOURCE, KernelError::NoSource),
            (SLTH_NOT_A_NUMBER, KernelError::NotANumber { layer: 0, index: 0 }),
            (SLTH_NOT_FINITE, KernelError::NotFinite { what, index: 0 }),
            (SLTH_OUT_OF_RANGE, KernelError::OutOfRange { what, allowed: "", found: String::new() }),
            (SLTH_KEEP_TOO_LARGE, KernelError::KeepTooLarge { keep: 2, len: 1 }),
            (SLTH_MASK_LENGTH, KernelError::MaskLength { layer: 0, scores: 1, mask: 2 }),
            (SLTH_MASK_COUNT, KernelError::MaskCount { layers: 1, masks: 2 }),
            (SLTH_TOO_MANY_SCORES, KernelError::TooManyScores { len: 1 }),
            (SLTH_NO_CANDIDATES, KernelError::NoCandidates),
            (SLTH_TOO_MANY_CANDIDATES, KernelError::TooManyCandidates { found: 2, limit: 1 }),
            (SLTH_NOT_BY_BITONIC, KernelError::NotByBitonic),
            (SLTH_PLANE_TOO_LARGE, KernelError::PlaneTooLarge { what, limit: 1, found: 2 }),
            (SLTH_MALFORMED, KernelError::Malformed { what, why: "" }),
            (
                SLTH_UNKNOWN_BACKEND,
                KernelError::UnknownBackend { name: name.clone(), available: available.clone() },
            ),
            (SLTH_UNAVAILABLE_BACKEND, KernelError::UnavailableBackend { name, available }),
        ];
        let unknown = message(slth_status_message(u32::MAX));
        for (status, error) in &errors {
            assert_eq!(*status, error.code(), "{error}");
            assert_ne!(message(slth_status_message(*status)), unknown, "{error}");
        }
        // The list is complete: the sources of the kernels' error know no further code.
        let next = format!("=> {},", errors.len() + 1);
        assert!(
            !include_str!("../../../kernels/src/error.rs").contains(&next),
            "an error has no status here"
        );
    }

    #[test]
    fn panics_become_a_status() {
        assert_eq!(guard(|| panic!("on {}", "purpose")), SLTH_PANIC);
        assert_eq!(message(slth_last_error()), "a defect of the library: on purpose");
        assert_eq!(guard(|| std::panic::panic_any(5)), SLTH_PANIC);
        assert_eq!(guard(|| Err(Failure::NullPointer { what: "x" })), SLTH_NULL_POINTER);
        assert_eq!(guard(|| Ok(())), SLTH_OK);
        assert_eq!(message(slth_last_error()), "x is NULL");
    }

    /// A text that is too long is cut between two characters, and a pointer from before reads the new one.
    #[test]
    fn the_last_error_stays_in_place() {
        let before = slth_last_error();
        for (text, expected) in [
            ("é".repeat(400), "é".repeat(255)),
            ("a\0b".to_owned(), "a b".to_owned()),
            (String::new(), String::new()),
        ] {
            set_last_error(&text);
            assert_eq!(message(before), expected);
        }
        assert_eq!(before, slth_last_error());
    }

    #[test]
    fn versions_agree() {
        assert_eq!(message(slth_version()), env!("CARGO_PKG_VERSION"));
    }
}
