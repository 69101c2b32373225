//! The embedded MNIST files.

/// Name and content: training images and labels, test images and labels.
pub(super) static FILES: [(&str, &[u8]); 4] = [
    ("train-images-idx3-ubyte.gz", slth_mnist_train::IMAGES),
    ("train-labels-idx1-ubyte.gz", slth_mnist_train::LABELS),
    ("t10k-images-idx3-ubyte.gz", slth_mnist_test::IMAGES),
    ("t10k-labels-idx1-ubyte.gz", slth_mnist_test::LABELS),
];

#[cfg(test)]
mod tests {
    use std::io::Read;

    use sha2::{Digest, Sha256};

    /// The sums of the published, uncompressed files.
    #[test]
    fn files_are_the_published_ones() {
        let published = [
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ];
        for ((name, bytes), expected) in super::FILES.into_iter().zip(published) {
            let mut plain = Vec::new();
            flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain).unwrap();
            let sum: String = Sha256::digest(&plain).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(sum, expected, "{name}");
        }
    }
}
