//! The 60,000 training images of MNIST and their labels, as bytes of gzipped IDX files.

/// `train-images-idx3-ubyte.gz`.
pub static IMAGES: &[u8] = include_bytes!("train-images-idx3-ubyte.gz");

/// `train-labels-idx1-ubyte.gz`.
pub static LABELS: &[u8] = include_bytes!("train-labels-idx1-ubyte.gz");
