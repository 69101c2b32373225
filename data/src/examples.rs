//! Labelled images, and subsets of them.

use super::{Change, DatasetProblem};
use crate::random::{Purpose, Stream};

/// Images with their labels, in the order of their file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examples {
    pixels: Vec<u8>,
    pub(super) labels: Vec<u8>,
    shape: [usize; 3],
}

impl Examples {
    /// The images `pixels`, `[images, channels, rows, columns]`, row-major, with a label for each; `shape` is `[channels, rows,
    /// columns]`.
    ///
    /// # Errors
    /// When there are no pixels, the channels are neither 1 nor 3, there is not one label for each image, or there are more than
    /// `u32::MAX` images.
    pub fn new(pixels: Vec<u8>, labels: Vec<u8>, shape: [usize; 3]) -> Result<Self, DatasetProblem> {
        let features = shape.iter().try_fold(1_usize, |n, &size| n.checked_mul(size)).unwrap_or(usize::MAX);
        if pixels.is_empty() || features == 0 {
            return Err(DatasetProblem::Count(0));
        }
        if ![1, 3].contains(&shape[0]) {
            return Err(DatasetProblem::Channels(shape[0]));
        }
        if labels.len().checked_mul(features) != Some(pixels.len()) {
            let images = pixels.len() / features;
            return Err(DatasetProblem::CountsDiffer { images, labels: labels.len() });
        }
        match u32::try_from(labels.len()) {
            Ok(_) => Ok(Self { pixels, labels, shape }),
            Err(_) => Err(DatasetProblem::Count(labels.len())),
        }
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no images; those of a [`Dataset`](super::Dataset) are never empty.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The size of an image: `[channels, rows, columns]`.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// Numbers per image: channels · rows · columns.
    pub fn features(&self) -> usize {
        self.shape.iter().product()
    }

    /// All pixels, `[images, channels, rows, columns]`, row-major.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The label of each image.
    pub fn labels(&self) -> &[u8] {
        &self.labels
    }
}

/// The images of a step.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// What they are taken from.
    pub examples: &'a Examples,
    /// Their places in it.
    pub indices: &'a [u32],
    /// The change of each image; empty without augmentation.
    pub changes: &'a [Change],
}

/// Some of a set's examples: the training, validation or test images of a run.
#[derive(Clone, Debug)]
pub struct Subset<'a> {
    examples: &'a Examples,
    /// Ascending.
    indices: Vec<u32>,
}

impl<'a> Subset<'a> {
    /// All examples.
    pub fn all(examples: &'a Examples) -> Self {
        Self::first(examples, examples.len())
    }

    /// The first `len` examples of the file, or all if there are fewer.
    pub fn first(examples: &'a Examples, len: usize) -> Self {
        // There are at most `u32::MAX` examples.
        Self { examples, indices: (0..len.min(examples.len()) as u32).collect() }
    }

    /// Disjoint random subsets of these sizes, each stratified: every class has its share of each subset, rounded by the method
    /// of largest remainders. The draw is keyed by `seed`. A subset is smaller if the ones before it leave too few examples. O(n
    /// log n).
    ///
    /// ```
    /// use slth_data::{Dataset, Subset};
    /// let mnist = Dataset::mnist()?;
    /// let [validation, train] = Subset::stratified(mnist.train(), [5000, 600], 1);
    /// let ones = |subset: &Subset<'_>| subset.labels().filter(|&label| label == 1).count();
    /// assert_eq!((ones(&validation), ones(&train)), (562, 67)); // 11.24 % of 60,000
    /// # Ok::<(), slth_data::DatasetError>(())
    /// ```
    pub fn stratified<const PARTS: usize>(
        examples: &'a Examples,
        sizes: [usize; PARTS],
        seed: u64,
    ) -> [Self; PARTS] {
        let mut classes: Vec<Vec<u32>> = vec![Vec::new(); 256];
        for (index, &label) in (0..).zip(examples.labels()) {
            classes[usize::from(label)].push(index);
        }
        for (class, indices) in classes.iter_mut().enumerate() {
            Stream::new(seed, Purpose::Split, class, 0).shuffle(indices);
        }
        sizes.map(|size| {
            let left: Vec<usize> = classes.iter().map(Vec::len).collect();
            let drawn = classes.iter_mut().zip(shares(size, &left));
            let mut indices: Vec<u32> = drawn.flat_map(|(class, share)| class.drain(..share)).collect();
            indices.sort_unstable();
            Self { examples, indices }
        })
    }

    /// The examples that this is a subset of.
    pub fn examples(&self) -> &'a Examples {
        self.examples
    }

    /// Where the subset's examples are in [`examples`](Self::examples), ascending.
    pub fn indices(&self) -> &[u32] {
        &self.indices
    }

    /// The label of each example.
    pub fn labels(&self) -> impl Iterator<Item = u8> {
        self.indices.iter().map(|&index| self.examples.labels()[index as usize])
    }

    /// Number of examples in it.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether there are none in it.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }
}

/// `size` divided among classes in proportion to `counts`: each gets its quota rounded down, and the classes of largest
/// remainder, of equal ones the lowest, get one more.
fn shares(size: usize, counts: &[usize]) -> Vec<usize> {
    let total: usize = counts.iter().sum();
    let size = size.min(total);
    // Both factors are below 2³².
    let products: Vec<u64> = counts.iter().map(|&count| size as u64 * count as u64).collect();
    let total = total.max(1) as u64;
    let mut shares: Vec<usize> = products.iter().map(|product| (product / total) as usize).collect();
    let mut by_remainder: Vec<usize> = (0..counts.len()).collect();
    by_remainder.sort_by_key(|&class| std::cmp::Reverse(products[class] % total)); // stable
    let missing = size - shares.iter().sum::<usize>();
    by_remainder[..missing].iter().for_each(|&class| shares[class] += 1);
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `counts[c]` examples of class c, sorted by class.
    fn sorted(counts: &[usize]) -> Examples {
        let labels: Vec<u8> =
            (0..).zip(counts).flat_map(|(class, &count)| std::iter::repeat_n(class, count)).collect();
        Examples::new(vec![0; labels.len()], labels, [1, 1, 1]).unwrap()
    }

    #[test]
    fn shares_are_proportional() {
        assert_eq!(shares(10, &[50, 30, 20]), [5, 3, 2]);
        assert_eq!(shares(7, &[1, 1, 1]), [1, 1, 1]);
        assert_eq!(shares(2, &[1, 1, 1]), [1, 1, 0]);
        assert_eq!(shares(5, &[10, 0, 7]), [3, 0, 2]); // rounded from 2.94 and 2.06
        assert_eq!(shares(0, &[3, 4]), [0, 0]);
        assert_eq!(shares(9, &[]), [0; 0]);
        for size in 0..=100 {
            let counts = [61, 0, 1, 13, 25];
            let found = shares(size, &counts);
            assert_eq!(found.iter().sum::<usize>(), size);
            for (share, count) in found.into_iter().zip(counts) {
                assert!(share <= count && (share * 100).abs_diff(size * count) < 100, "{size}");
            }
        }
    }

    #[test]
    fn parts_are_disjoint_and_stratified() {
        let examples = sorted(&[40, 0, 200, 160]);
        let [validation, train] = Subset::stratified(&examples, [100, 120], 7);
        for (subset, expected) in [(&validation, [10, 0, 50, 40]), (&train, [12, 0, 60, 48])] {
            let count = |class| subset.labels().filter(|&label| label == class).count();
            assert_eq!([0, 1, 2, 3].map(count), expected);
            assert!(subset.indices().is_sorted_by(|a, b| a < b));
        }
        assert!(validation.indices().iter().all(|index| train.indices().binary_search(index).is_err()));
        let [most, none] = Subset::stratified(&examples, [500, 1], 7);
        assert_eq!((most.indices(), none.len()), (Subset::all(&examples).indices(), 0));
    }

    #[test]
    fn the_seed_decides() {
        let examples = sorted(&[100, 100]);
        let draw = |seed| Subset::stratified(&examples, [50], seed)[0].indices().to_vec();
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        // Examples come from all over a class, not from its beginning or end.
        assert!(draw(1).iter().filter(|&&index| index % 100 < 50).count().abs_diff(25) < 15);
    }
}
