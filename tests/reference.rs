//! Pretraining and edge-popup against plain loops in f64, written from the definitions.

use slth::data::{Dataset, Subset};
use slth::network::{Initialisation, LayerShape, Pool, Stage};
use slth::progress::NoProgress;
use slth::random::{Purpose, Stream};
use slth::run::{Experiment, RunConfig};
use slth_kernels::Engine;
use slth_kernels::conv2d::Shape;

/// A network as the reference sees it: effective weights per layer, then its biases, where it has some.
type Weights = Vec<Vec<f64>>;

/// Calls `term(output, input, weight)` for the indices of every product of a layer.
fn for_each_term(stage: Stage, mut term: impl FnMut(usize, usize, usize)) {
    match stage {
        Stage::Dense { inputs, outputs } => {
            for o in 0..outputs {
                (0..inputs).for_each(|i| term(o, i, o * inputs + i));
            }
        }
        Stage::Convolution(shape) => {
            let Shape { channels, height, width, kernel: [rows, columns], stride, padding, .. } = shape;
            let positions = shape.out_height() * shape.out_width();
            for w in 0..shape.weights().unwrap() {
                let (o, c) = (w / (channels * rows * columns), w / (rows * columns) % channels);
                for at in 0..positions {
                    let y = (at / shape.out_width() * stride + w / columns % rows).wrapping_sub(padding);
                    let x = (at % shape.out_width() * stride + w % columns).wrapping_sub(padding);
                    if y < height && x < width {
                        term(o * positions + at, (c * height + y) * width + x, w);
                    }
                }
            }
        }
        Stage::Pool(_) => unreachable!("no weights"),
    }
}

/// For each output of max pooling the index of its input: the first of equal maxima.
fn largest(Pool { channels, height, width, size }: Pool, x: &[f64]) -> Vec<usize> {
    let mut sources = Vec::new();
    for c in 0..channels {
        for y in 0..height / size {
            for column in 0..width / size {
                let place = |i: usize| (c * height + y * size + i / size) * width + column * size + i % size;
                let better = |best: usize, at: usize| if x[at] > x[best] { at } else { best };
                sources.push((1..size * size).map(place).fold(place(0), better));
            }
        }
    }
    sources
}

/// Mean loss gradient with respect to each layer's effective weights.
fn gradients(stages: &[Stage], weights: &Weights, images: &[(Vec<f64>, usize)]) -> Weights {
    let mut sum: Weights = weights.iter().map(|layer| vec![0.0; layer.len()]).collect();
    for (x, label) in images {
        let mut outputs = vec![x.clone()];
        let mut layers = weights.iter();
        for (l, &stage) in stages.iter().enumerate() {
            let x = &outputs[l];
            let mut y = vec![0.0_f64; stage.outputs()];
            if let Stage::Pool(pool) = stage {
                y = largest(pool, x).into_iter().map(|at| x[at]).collect();
            } else {
                let weights = layers.next().unwrap();
                for_each_term(stage, |o, i, w| y[o] += weights[w] * x[i]);
                let (shape, outputs) = (stage.weights().unwrap(), y.len());
                let bias = |o: usize| weights.get(shape.weights() + o * shape.outputs / outputs);
                y.iter_mut().enumerate().for_each(|(o, y)| *y += bias(o).unwrap_or(&0.0));
                if l + 1 < stages.len() {
                    y.iter_mut().for_each(|y| *y = y.max(0.0));
                }
            }
            outputs.push(y);
        }
        let logits = outputs.last().unwrap();
        let total: f64 = logits.iter().map(|z| z.exp()).sum();
        let one_hot = |class: usize| if class == *label { 1.0 } else { 0.0 };
        let mut dy: Vec<f64> = logits
            .iter()
            .enumerate()
            .map(|(c, z)| (z.exp() / total - one_hot(c)) / images.len() as f64)
            .collect();
        let mut layers = weights.iter().zip(&mut sum).rev();
        for (l, &stage) in stages.iter().enumerate().rev() {
            let x = &outputs[l];
            let mut dx = vec![0.0; x.len()];
            if let Stage::Pool(pool) = stage {
                largest(pool, x).into_iter().zip(&dy).for_each(|(at, d)| dx[at] = *d);
            } else {
                let (weights, sum) = layers.next().unwrap();
                for_each_term(stage, |o, i, w| {
                    sum[w] += dy[o] * x[i];
                    dx[i] += dy[o] * weights[w];
                });
                let shape = stage.weights().unwrap();
                for (o, d) in dy.iter().enumerate() {
                    if let Some(sum) = sum.get_mut(shape.weights() + o * shape.outputs / dy.len()) {
                        *sum += d;
                    }
                }
            }
            // The gate of the ReLU. After a pooling it changes nothing: the ReLU before the pooling has the same gate.
            dy = dx.into_iter().zip(x).map(|(d, &x)| if x > 0.0 { d } else { 0.0 }).collect();
        }
    }
    sum
}

struct Setting {
    config: RunConfig,
    mnist: Dataset,
    stages: Vec<Stage>,
    shapes: Vec<LayerShape>,
    /// Indices of the training images, ascending.
    train: Vec<usize>,
}

impl Setting {
    fn new(network: &str, bias: bool) -> Self {
        let config = RunConfig {
            bias,
            init: Initialisation::PytorchDefault,
            network: network.parse().unwrap(),
            epsilon: 0.004,
            sparsity: 0.4,
            pretrain_epochs: 3,
            pretrain_momentum: 0.5,
            prune_epochs: 3,
            weight_decay: 0.01, // large enough to be noticed
            train_images: Some(100),
            validation: 50,
            batch: 32, // the last batch of an epoch has 4 images
            seed: 11,
            ..RunConfig::default()
        };
        let shapes = config.network.layers().collect();
        let stages = config.network.stages().to_vec();
        let mnist = Dataset::mnist().unwrap();
        let [_, train] = Subset::stratified(mnist.train(), [50, 100], config.seed);
        let train = train.indices().iter().map(|&index| index as usize).collect();
        Self { config, mnist, stages, shapes, train }
    }

    fn initial(&self) -> Weights {
        let config = RunConfig { pretrain_epochs: 0, ..self.config.clone() };
        let experiment = Experiment::new(&config, &self.mnist, Engine::detect().unwrap()).unwrap();
        let drawn = experiment.pretrain(&NoProgress).unwrap().0.weights;
        for (shape, layer) in self.shapes.iter().zip(&drawn) {
            let bound = (1.0 / (shape.inputs as f64).sqrt()) as f32;
            assert!(layer.iter().all(|x| x.abs() <= bound));
            let biases = if config.bias { shape.outputs } else { 0 };
            assert_eq!(layer.len(), shape.weights() + biases);
        }
        drawn.into_iter().map(|layer| layer.into_iter().map(f64::from).collect()).collect()
    }

    /// The batches of an epoch: normalised images with their labels.
    fn batches(&self, purpose: Purpose, epoch: usize) -> Vec<Vec<(Vec<f64>, usize)>> {
        let mut order = self.train.clone();
        Stream::new(self.config.seed, purpose, 0, epoch).shuffle(&mut order);
        let examples = self.mnist.train();
        let pixels = || examples.pixels().iter().map(|&p| f64::from(p) / 255.0);
        let n = examples.pixels().len() as f64;
        let mean = pixels().sum::<f64>() / n;
        let std = (pixels().map(|p| (p - mean).powi(2)).sum::<f64>() / n).sqrt();
        let image = |&i: &usize| {
            let pixels = &examples.pixels()[i * 784..(i + 1) * 784];
            let x = pixels.iter().map(|&p| (f64::from(p) / 255.0 - mean) / std).collect();
            (x, usize::from(examples.labels()[i]))
        };
        order.chunks(self.config.batch).map(|batch| batch.iter().map(image).collect()).collect()
    }

    fn pretrain(&self) -> Weights {
        let (initial, config) = (self.initial(), &self.config);
        let mut weights = initial.clone();
        let mut velocity: Weights = initial.iter().map(|layer| vec![0.0; layer.len()]).collect();
        let mut change = velocity.clone();
        let [rate, momentum, epsilon] =
            [config.pretrain_lr, config.pretrain_momentum, config.epsilon].map(f64::from);
        for epoch in 0..config.pretrain_epochs {
            for batch in self.batches(Purpose::PretrainOrder, epoch) {
                let gradient = gradients(&self.stages, &weights, &batch);
                for l in 0..weights.len() {
                    for i in 0..weights[l].len() {
                        velocity[l][i] = momentum * velocity[l][i] + gradient[l][i];
                        change[l][i] = (change[l][i] - rate * velocity[l][i]).clamp(-epsilon, epsilon);
                        weights[l][i] = initial[l][i] + change[l][i];
                    }
                }
            }
        }
        weights
    }

    /// Masks and scores after pruning.
    fn prune(&self, weights: &Weights) -> (Vec<Vec<bool>>, Weights) {
        let config = &self.config;
        let mut scores: Weights = Vec::new();
        for (l, shape) in self.shapes.iter().enumerate() {
            let bound = (1.0 / (shape.inputs as f64).sqrt()) as f32;
            let mut stream = Stream::new(config.seed, Purpose::Scores, l, 0);
            scores.push((0..shape.weights()).map(|_| f64::from(stream.symmetric(bound))).collect());
        }
        let mut velocity: Weights = scores.iter().map(|layer| vec![0.0; layer.len()]).collect();
        let [momentum, decay] = [config.momentum, config.weight_decay].map(f64::from);
        for epoch in 0..config.prune_epochs {
            let turn = std::f64::consts::PI * epoch as f64 / config.prune_epochs as f64;
            let rate = f64::from(config.prune_lr) * 0.5 * (1.0 + turn.cos());
            for batch in self.batches(Purpose::PruneOrder, epoch) {
                let masks = masks(&scores, config.sparsity);
                let effective: Weights = (weights.iter().zip(&masks))
                    .map(|(w, m)| {
                        let kept = w.iter().zip(m).map(|(&w, &kept)| if kept { w } else { 0.0 });
                        kept.chain(w[m.len()..].iter().copied()).collect()
                    })
                    .collect();
                let gradient = gradients(&self.stages, &effective, &batch);
                for l in 0..weights.len() {
                    for i in 0..scores[l].len() {
                        let score = scores[l][i];
                        let g = score.signum() * weights[l][i] * gradient[l][i] + decay * score;
                        velocity[l][i] = momentum * velocity[l][i] + g;
                        scores[l][i] -= rate * velocity[l][i];
                    }
                }
            }
        }
        (masks(&scores, config.sparsity), scores)
    }
}

/// Removes the int(s·n) of lowest |score|, of equal ones the lower index first.
fn masks(scores: &Weights, sparsity: f64) -> Vec<Vec<bool>> {
    let mask = |layer: &Vec<f64>| {
        let mut order: Vec<usize> = (0..layer.len()).collect();
        order.sort_by(|&a, &b| layer[a].abs().total_cmp(&layer[b].abs())); // stable
        let mut kept = vec![true; layer.len()];
        let removed = (sparsity * layer.len() as f64) as usize;
        order[..removed].iter().for_each(|&i| kept[i] = false);
        kept
    };
    scores.iter().map(mask).collect()
}

fn largest_difference(found: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).map(|(&f, &e)| (f64::from(f) - e).abs()).fold(0.0, f64::max)
}

#[test]
fn pretraining_and_pruning_are_as_defined() {
    check("784-14-12-10", false);
    check("784-14-12-10", true);
}

#[test]
fn pretraining_and_pruning_of_convolutions_are_as_defined() {
    check("28x28-3@5x5s2p2-pool2-5@3x2p1-pool3-12-10", false);
    check("28x28-3@5x5s2p2-pool2-5@3x2p1-pool3-12-10", true);
}

fn check(network: &str, bias: bool) {
    let setting = Setting::new(network, bias);
    let experiment = Experiment::new(&setting.config, &setting.mnist, Engine::detect().unwrap()).unwrap();
    let (pretrained, dense) = experiment.pretrain(&NoProgress).unwrap();
    let expected = setting.pretrain();
    for (found, expected) in pretrained.weights.iter().zip(&expected) {
        assert!(largest_difference(found, expected) < 2e-6, "{}", largest_difference(found, expected));
    }
    assert_eq!(dense.max_change, setting.config.epsilon); // the bound was reached and not exceeded

    // Pruning starts from the weights found, so that rounding in pretraining does not matter.
    let weights: Weights =
        pretrained.weights.iter().map(|w| w.iter().map(|&w| f64::from(w)).collect()).collect();
    let (layers, _) = experiment.prune(&pretrained, setting.config.sparsity, &NoProgress).unwrap();
    let (masks, scores) = setting.prune(&weights);
    for ((layer, mask), scores) in layers.iter().zip(&masks).zip(&scores) {
        assert!(
            largest_difference(&layer.scores, scores) < 1e-5,
            "{}",
            largest_difference(&layer.scores, scores)
        );
        assert_eq!(layer.mask.iter().collect::<Vec<_>>(), *mask);
        assert_eq!(layer.weights.len(), layer.mask.len());
        assert_eq!(layer.bias.len(), if bias { layer.shape.outputs } else { 0 });
    }
}
