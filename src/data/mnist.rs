//! The embedded MNIST files.

/// Name and content: training images and labels, test images and labels.
pub(super) static FILES: [(&str, &[u8]); 4] = [
    ("train-images-idx3-ubyte.gz", slth_mnist_train::IMAGES),
    ("train-labels-idx1-ubyte.gz", slth_mnist_train::LABELS),
    ("t10k-images-idx3-ubyte.gz", slth_mnist_test::IMAGES),
    ("t10k-labels-idx1-ubyte.gz", slth_mnist_test::LABELS),
];
