//! Kernels of other libraries behind one safe interface, for comparison with those of `slth-kernels`.
//!
//! All take row-major matrices: W `[m, k]`, X `[k, n]`, Y `[m, n]`, and overwrite Y with W · X.

use faer::{Accum, MatMut, MatRef, Par};
use ndarray::{ArrayView2, ArrayViewMut2};
use sprs::CsMatI;

/// A library in the configuration that is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Library {
    /// The crate's name.
    pub name: &'static str,
    /// Its version, as the lock file says.
    pub version: String,
    /// Enabled features, and other settings.
    pub features: &'static str,
    /// The instruction set that it uses on this machine.
    pub isa: &'static str,
}

/// All libraries.
pub fn libraries() -> Vec<Library> {
    let of = |(name, features, isa)| Library { name, version: version(name), features, isa };
    let all = [
        ("gemm", "x86-v4, rayon", chosen()),
        ("faer", "rayon", chosen()),
        ("matrixmultiply", "avx512; one thread", chosen()),
        ("sprs", "one thread", compiled()),
    ];
    all.into_iter().map(of).collect()
}

fn version(name: &str) -> String {
    const LOCK: &str = include_str!("../../../Cargo.lock");
    let (_, rest) = LOCK.split_once(&format!("name = \"{name}\"\nversion = \"")).unwrap_or_default();
    rest.split('"').next().unwrap_or_default().to_owned()
}

/// The instruction set that libraries with run-time detection choose.
fn chosen() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            return "avx512";
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return "avx2";
        }
    }
    compiled()
}

/// The instruction set of libraries without run-time detection; `RUSTFLAGS="-C target-cpu=native"` raises it.
fn compiled() -> &'static str {
    match () {
        () if cfg!(target_feature = "avx512f") => "avx512",
        () if cfg!(target_feature = "avx2") => "avx2",
        () if cfg!(target_feature = "sse2") => "sse2",
        () if cfg!(target_feature = "neon") => "neon",
        () => "baseline",
    }
}

/// A row-major matrix, or the transpose of one.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    transposed: bool,
}

impl<'a> Matrix<'a> {
    /// `data` as `[rows, columns]`.
    ///
    /// # Panics
    /// When its length does not fit.
    pub fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(data.len(), rows * columns, "length of a matrix");
        Self { data, rows, columns, transposed: false }
    }

    /// Its transpose, without a copy.
    #[must_use]
    pub fn transpose(self) -> Self {
        Self { rows: self.columns, columns: self.rows, transposed: !self.transposed, ..self }
    }

    /// Row stride and column stride.
    fn strides(self) -> [isize; 2] {
        if self.transposed { [1, self.rows as isize] } else { [self.columns as isize, 1] }
    }

    fn faer(self) -> MatRef<'a, f32> {
        if self.transposed {
            MatRef::from_row_major_slice(self.data, self.columns, self.rows).transpose()
        } else {
            MatRef::from_row_major_slice(self.data, self.rows, self.columns)
        }
    }
}

/// A dense product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dense {
    /// The crate `gemm`.
    Gemm,
    /// The crate `faer`.
    Faer,
    /// The crate `matrixmultiply`; one thread only.
    Matrixmultiply,
}

impl Dense {
    /// All dense products.
    pub const ALL: [Self; 3] = [Self::Gemm, Self::Faer, Self::Matrixmultiply];

    /// The crate's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gemm => "gemm",
            Self::Faer => "faer",
            Self::Matrixmultiply => "matrixmultiply",
        }
    }

    /// Whether it can use more than one thread, from the caller's rayon pool.
    pub fn is_parallel(self) -> bool {
        self != Self::Matrixmultiply
    }

    /// Y = W · X, on rayon's pool where `parallel`.
    ///
    /// # Panics
    /// When the sizes do not fit.
    pub fn multiply(self, w: Matrix<'_>, x: Matrix<'_>, y: &mut [f32], parallel: bool) {
        let (m, k, n) = (w.rows, w.columns, x.columns);
        assert_eq!((x.rows, y.len()), (k, m * n), "sizes of W, X and Y");
        let ([w_row, w_column], [x_row, x_column]) = (w.strides(), x.strides());
        match self {
            Self::Gemm => {
                let threads = if parallel { gemm::Parallelism::Rayon(0) } else { gemm::Parallelism::None };
                let (y, y_row, w, x) = (y.as_mut_ptr(), n as isize, w.data.as_ptr(), x.data.as_ptr());
                // SAFETY: the pointers are those of slices of m · n, m · k and k · n elements, as Matrix::new and the assertion
                // above have checked, and with these strides each index below (m, n), (m, k) and (k, n) lies within its
                // slice.
                unsafe {
                    gemm::gemm(
                        m, n, k, y, 1, y_row, false, w, w_column, w_row, x, x_column, x_row, 0.0, 1.0, false,
                        false, false, threads,
                    );
                }
            }
            Self::Faer => {
                let y = MatMut::from_row_major_slice_mut(y, m, n);
                let threads = if parallel { Par::rayon(0) } else { Par::Seq };
                faer::linalg::matmul::matmul(y, Accum::Replace, w.faer(), x.faer(), 1.0, threads);
            }
            Self::Matrixmultiply => {
                let (y, y_row, w, x) = (y.as_mut_ptr(), n as isize, w.data.as_ptr(), x.data.as_ptr());
                // SAFETY: as for gemm.
                unsafe {
                    matrixmultiply::sgemm(
                        m, k, n, 1.0, w, w_row, w_column, x, x_row, x_column, 0.0, y, y_row, 1,
                    );
                }
            }
        }
    }
}

/// W in `sprs`' compressed rows, with 32-bit indices.
#[derive(Clone, Debug)]
pub struct Sprs(CsMatI<f32, u32>);

impl Sprs {
    /// The weights for which `keep` holds, of W `[m, k]`.
    ///
    /// # Panics
    /// When the length does not fit, or there are 2³² or more.
    pub fn new(w: &[f32], m: usize, k: usize, keep: impl Fn(usize) -> bool) -> Self {
        assert_eq!(w.len(), m * k, "length of W");
        let (mut starts, mut columns, mut values) = (vec![0], Vec::new(), Vec::new());
        for row in 0..m {
            for column in (0..k).filter(|column| keep(row * k + column)) {
                columns.push(u32::try_from(column).expect("fewer than 2^32 columns"));
                values.push(w[row * k + column]);
            }
            starts.push(u32::try_from(values.len()).expect("fewer than 2^32 weights"));
        }
        Self(CsMatI::new((m, k), starts, columns, values))
    }

    /// Y = W · X with X `[k, n]`.
    ///
    /// # Panics
    /// When the lengths do not fit.
    pub fn multiply(&self, x: &[f32], n: usize, y: &mut [f32]) {
        y.fill(0.0);
        let x = ArrayView2::from_shape((self.0.cols(), n), x).expect("length of X");
        let y = ArrayViewMut2::from_shape((self.0.rows(), n), y).expect("length of Y");
        sprs::prod::csr_mulacc_dense_rowmaj(self.0.view(), x, y);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_of_the_lock_file() {
        let all = libraries();
        assert!(Dense::ALL.iter().all(|dense| all.iter().any(|library| library.name == dense.name())));
        assert!(all.iter().all(|library| library.version.split('.').count() == 3), "{all:?}");
    }

    #[test]
    fn all_compute_the_same() {
        let (w, x) = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1.0, 10.0, 100.0, 1000.0, 0.5, 0.25]);
        let (wt, xt) = ([1.0, 4.0, 2.0, 5.0, 3.0, 6.0], [1.0, 100.0, 0.5, 10.0, 1000.0, 0.25]);
        let expected = [202.5, 2010.75, 507.0, 5041.5];
        for peer in Dense::ALL {
            for w in [Matrix::new(&w, 2, 3), Matrix::new(&wt, 3, 2).transpose()] {
                for x in [Matrix::new(&x, 3, 2), Matrix::new(&xt, 2, 3).transpose()] {
                    let mut y = [f32::NAN; 4];
                    peer.multiply(w, x, &mut y, peer.is_parallel());
                    assert_eq!(y, expected, "{}", peer.name());
                }
            }
        }
        let mut y = [f32::NAN; 4];
        Sprs::new(&w, 2, 3, |_| true).multiply(&x, 2, &mut y);
        assert_eq!(y, expected);
        Sprs::new(&w, 2, 3, |i| i % 2 == 0).multiply(&x, 2, &mut y);
        assert_eq!(y, [2.5, 10.75, 500.0, 5000.0]);
    }
}
