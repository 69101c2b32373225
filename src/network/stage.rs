//! The steps of a network's forward pass, and the sizes of their weights.

use slth_kernels::conv2d;
use slth_kernels::top_k::keep_at;

/// The sizes of one layer's weights `[outputs, inputs]`, row-major.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerShape {
    /// Rows of the weights: neurons of the layer, or filters.
    pub outputs: usize,
    /// Columns of the weights: its fan-in, in a convolution channels · kernel rows · kernel columns.
    pub inputs: usize,
    /// Rows and columns of a convolution's kernel.
    pub kernel: Option<[usize; 2]>,
}

impl LayerShape {
    /// A fully connected layer.
    pub fn new(outputs: usize, inputs: usize) -> Self {
        Self { outputs, inputs, kernel: None }
    }

    /// The weights' dimensions: `[outputs, inputs]`, or `[filters, channels, kernel rows, kernel columns]`. None is 0.
    pub fn dimensions(self) -> Vec<usize> {
        match self.kernel {
            None => vec![self.outputs, self.inputs],
            Some([rows, columns]) => vec![self.outputs, self.inputs / (rows * columns), rows, columns],
        }
    }

    /// Number of weights.
    pub fn weights(self) -> usize {
        self.outputs * self.inputs
    }

    /// A layer's weights, and its biases where these follow them.
    pub(crate) fn split(self, parameters: &[f32]) -> (&[f32], &[f32]) {
        parameters.split_at(self.weights())
    }

    /// How many of them are kept at `sparsity`: all but int(s·n), truncated in f64.
    ///
    /// ```
    /// let layer = slth::network::LayerShape::new(10, 33);
    /// assert_eq!(layer.kept(0.9), 330 - 297);
    /// assert_eq!(layer.kept(0.0), 330);
    /// ```
    pub fn kept(self, sparsity: f64) -> usize {
        keep_at(sparsity, self.weights())
    }
}

/// A step of the forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// A fully connected layer.
    Dense {
        /// Its fan-in.
        inputs: usize,
        /// Its neurons.
        outputs: usize,
    },
    /// A convolution.
    Convolution(conv2d::Shape),
    /// Max-pooling.
    Pool(Pool),
}

/// Max-pooling: the largest of each `size` × `size` window, windows side by side. Rows and columns that fill no window are
/// left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pool {
    /// Planes.
    pub channels: usize,
    /// Rows of an input plane.
    pub height: usize,
    /// Columns of an input plane.
    pub width: usize,
    /// Rows and columns of a window.
    pub size: usize,
}

impl Pool {
    /// Rows and columns of an output plane.
    pub fn output_plane(self) -> [usize; 2] {
        [self.height / self.size, self.width / self.size]
    }
}

impl Stage {
    /// The sizes of its weights; `None` when it has none.
    pub fn weights(self) -> Option<LayerShape> {
        match self {
            Self::Dense { inputs, outputs } => Some(LayerShape::new(outputs, inputs)),
            Self::Convolution(shape) => {
                let [rows, columns] = shape.kernel;
                // What saturates is refused for its size.
                let inputs = shape.channels.saturating_mul(rows).saturating_mul(columns);
                Some(LayerShape { outputs: shape.outputs, inputs, kernel: Some(shape.kernel) })
            }
            Self::Pool(_) => None,
        }
    }

    /// Numbers it makes of an image.
    pub fn outputs(self) -> usize {
        let [channels, height, width] = self.output_planes();
        channels * height * width
    }

    /// Planes of the output, and their rows and columns; those of a fully connected layer are single numbers.
    pub(super) fn output_planes(self) -> [usize; 3] {
        match self {
            Self::Dense { outputs, .. } => [outputs, 1, 1],
            Self::Convolution(shape) => [shape.outputs, shape.out_height(), shape.out_width()],
            Self::Pool(pool) => {
                let [height, width] = pool.output_plane();
                [pool.channels, height, width]
            }
        }
    }
}
