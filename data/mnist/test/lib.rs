//! The 10,000 test images of MNIST and their labels, as bytes of gzipped IDX files.

/// `t10k-images-idx3-ubyte.gz`.
pub static IMAGES: &[u8] = include_bytes!("t10k-images-idx3-ubyte.gz");

/// `t10k-labels-idx1-ubyte.gz`.
pub static LABELS: &[u8] = include_bytes!("t10k-labels-idx1-ubyte.gz");
