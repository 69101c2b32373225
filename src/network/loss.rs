//! Softmax cross-entropy.

/// Sums over the images of one or more batches.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LossSum {
    /// Sum of the images' cross-entropies, in f64, ascending.
    pub loss: f64,
    /// Number of images classified correctly.
    pub correct: usize,
}

/// The loss of each image given its scores `logits`, `[classes, batch]`: log Σ exp z − z_label. Of equal scores the
/// lower class is the answer.
///
/// With `gradient`, `[classes, batch]`, also the gradient of the batch's *mean* loss with respect to the logits:
/// (softmax − one-hot) / batch. exp and log are `libm`'s, sums ascend by class: the same bits everywhere. O(classes · batch).
///
/// # Panics
/// When the slices do not fit `labels`, or a label is not a row of `logits`.
pub fn cross_entropy(
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
