//! Softmax cross-entropy.

/// Sums over the images of one or more batches.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct LossSum {
    /// Sum of the images' cross-entropies, in f64, ascending.
    pub(crate) loss: f64,
    /// Number of images classified correctly.
    pub(crate) correct: usize,
}

/// The loss of each image given its scores `logits`, `[classes, batch]`: log Σ exp z − z_label. Of equal scores the
/// lower class is the answer.
///
/// With `gradient`, `[classes, batch]`, also the gradient of the batch's *mean* loss with respect to the logits:
/// (softmax − one-hot) / batch. exp and log are `libm`'s, sums ascend by class: the same bits everywhere. O(classes · batch).
///
/// # Panics
/// When the slices do not fit `labels`, or a label is not a row of `logits`.
pub(crate) fn cross_entropy(
    logits: &[f32],
    labels: impl ExactSizeIterator<Item = u8>,
    mut gradient: Option<&mut [f32]>,
) -> LossSum {
    let batch = labels.len();
    let mut sum = LossSum::default();
    for (image, label) in labels.enumerate() {
        let label = usize::from(label);
        let column = || logits[image..].iter().copied().step_by(batch);
        let (mut answer, mut largest) = (0, f32::NEG_INFINITY);
        for (class, z) in column().enumerate() {
            if z > largest {
                (answer, largest) = (class, z);
            }
        }
        let total = column().fold(0.0, |total, z| total + libm::expf(z - largest));
        let own = logits[label * batch + image] - largest;
        sum.loss += libm::log(f64::from(total)) - f64::from(own);
        sum.correct += usize::from(answer == label);
        if let Some(gradient) = gradient.as_deref_mut() {
            let rows = gradient[image..].iter_mut().step_by(batch);
            for (class, (g, z)) in rows.zip(column()).enumerate() {
                let one_hot = if class == label { 1.0 } else { 0.0 };
                *g = (libm::expf(z - largest) / total - one_hot) / batch as f32;
            }
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gradient_is_that_of_the_mean_loss() {
        let labels = [2_u8, 0, 3]; // of 4 classes
        let logits: Vec<f32> = (0..12).map(|i| ((i * 7 % 5) as f32 - 2.0) * 0.7).collect();
        let mut gradient = vec![f32::NAN; 12];
        let found = cross_entropy(&logits, labels.into_iter(), Some(&mut gradient));
        let loss = |at: usize, step: f32| {
            let mut moved = logits.clone();
            moved[at] += step;
            cross_entropy(&moved, labels.into_iter(), None).loss / 3.0
        };
        assert_eq!(cross_entropy(&logits, labels.into_iter(), None), found);
        for (at, &g) in gradient.iter().enumerate() {
            let difference = (loss(at, 1e-2) - loss(at, -1e-2)) / 2e-2;
            assert!((difference - f64::from(g)).abs() < 1e-4, "{at}");
        }
    }

    #[test]
    fn equal_scores_are_chance() {
        let sum = cross_entropy(&[0.5; 10], [0_u8].into_iter(), None);
        assert!((sum.loss - 10_f64.ln()).abs() < 1e-6);
        assert_eq!(sum.correct, 1); // ties: the lower class
        assert_eq!(cross_entropy(&[0.5; 10], [1_u8].into_iter(), None).correct, 0);
    }

    #[test]
    fn large_scores_do_not_overflow() {
        let mut gradient = [0.0; 3];
        let sum = cross_entropy(&[3e38, -3e38, 0.0], [0_u8].into_iter(), Some(&mut gradient));
        assert_eq!((sum.loss, sum.correct), (0.0, 1));
        assert_eq!(gradient, [0.0; 3]);
        assert!(!cross_entropy(&[f32::NAN, 0.0], [1_u8].into_iter(), None).loss.is_finite());
        assert!(!cross_entropy(&[f32::INFINITY, 0.0], [0_u8].into_iter(), None).loss.is_finite());
    }
}
