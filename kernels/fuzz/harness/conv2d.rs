//! Convolutions.

use arbitrary::{Result, Unstructured};
use slth_kernels::conv2d::{self, PackedConv2d, Shape, Workspace};
use slth_kernels::{Activation, Epilogue, ImagesMut, ImagesRef, KernelError, MatMut, MatRef, PrepareOptions};

use crate::harness::{Floats, Lengths, MOST, bits, everywhere, mask, size};

/// Sizes and strides of images, which may leave gaps, reach beyond the memory or overlap.
#[derive(Clone, Copy, Debug)]
struct Placed {
    sizes: [usize; 4],
    strides: [usize; 4],
}

impl Placed {
    /// NCHW, batch innermost, or another layout.
    fn new(u: &mut Unstructured<'_>, sizes: [usize; 4]) -> Result<Self> {
        let order = *u.choose(&[[3, 2, 1, 0], [0, 3, 2, 1], [1, 3, 2, 0], [2, 0, 3, 1]])?;
        let mut strides = [0; 4];
        let mut stride = 1_usize;
        for axis in order {
            if u.int_in_range(0..=15_u8)? == 0 {
                stride = stride.saturating_add(size(u, 5)?);
            }
            strides[axis] = stride;
            stride = stride.saturating_mul(sizes[axis].max(1));
        }
        if u.int_in_range(0..=63_u8)? == 0 {
            strides[u.int_in_range(0..=3)?] = size(u, 50)?;
        }
        Ok(Self { sizes, strides })
    }

    /// Memory for the images; empty if too much would be needed.
    fn floats(&self, u: &mut Unstructured<'_>) -> Result<Floats> {
        let last = self
            .sizes
            .iter()
            .zip(self.strides)
            .map(|(&size, stride)| (size.max(1) - 1).saturating_mul(stride));
        let len = last.fold(1, usize::saturating_add);
        Floats::new(u, if len > MOST || self.sizes.contains(&0) { 0 } else { len })
    }

    /// Whether there are at most [`MOST`] elements.
    fn few(&self) -> bool {
        self.sizes.iter().fold(1, |n: usize, &size| n.saturating_mul(size)) <= MOST
    }

    fn read<'a>(&self, memory: &'a Floats) -> Result<ImagesRef<'a>, KernelError> {
        ImagesRef::new(memory.get(), self.sizes, self.strides)
    }

    fn write<'a>(&self, memory: &'a mut Floats) -> Result<ImagesMut<'a>, KernelError> {
        ImagesMut::new(memory.get_mut(), self.sizes, self.strides)
    }
}

pub(super) fn run(u: &mut Unstructured<'_>) -> Result<()> {
    let shape = Shape {
        channels: size(u, 20)?,
        height: size(u, 40)?,
        width: size(u, 40)?,
        outputs: size(u, 20)?,
        kernel: [size(u, 12)?, size(u, 12)?],
        stride: size(u, 6)?,
        padding: size(u, 8)?,
    };
    let batch = size(u, 70)?;
    let Shape { channels, height, width, outputs, kernel, .. } = shape;
    let columns =
        [channels, kernel[0], kernel[1]].into_iter().try_fold(1_usize, |n, size| n.checked_mul(size));
    let (out_height, out_width) = (shape.out_height(), shape.out_width());
    let work = [columns.unwrap_or(0), outputs, out_height, out_width, batch];
    let work = work.into_iter().fold(1, usize::saturating_mul);
    if work > 1 << 19 && work < usize::MAX / 2 {
        return Ok(()); // too slow
    }
    let x_place = Placed::new(u, [batch, channels, height, width])?;
    let mut y_place = Placed::new(u, [batch, outputs, out_height, out_width])?;
    if u.int_in_range(0..=31_u8)? == 0 {
        y_place.sizes[u.int_in_range(0..=3)?] = size(u, 9)?;
    }
    let mut lengths = Lengths { fit: true };
    let len = lengths.of(u, &[outputs, channels, kernel[0], kernel[1]])?;
    let weights = Floats::new(u, len)?;
    let (x, dy) = (x_place.floats(u)?, y_place.floats(u)?);
    let bias = Floats::new(u, outputs.min(MOST))?;
    let mask = mask(u, weights.get().len())?;
    let epilogue = Epilogue {
        bias: u.arbitrary::<bool>()?.then(|| bias.get()),
        activation: *u.choose(&[Activation::Identity, Activation::Relu])?,
        accumulate: u.arbitrary()?,
    };
    let gated = u.arbitrary::<bool>()?;
    let [keep_source, rebuild, masked] = u.arbitrary::<[bool; 3]>()?;
    let options = PrepareOptions::default().input_gradient(true).keep_source(keep_source);
    let options = if u.arbitrary()? { options.max_batch(batch) } else { options };

    let found = everywhere(|engine| {
        let mut space = Workspace::default();
        let (mut y, mut dx, mut dw) = (dy.clone(), x.clone(), weights.clone());
        let mut call = || -> Result<(), KernelError> {
            let columns = columns.ok_or(KernelError::Overflow { what: "filters" })?;
            let filters = MatRef::row_major(weights.get(), outputs, columns)?;
            let mask = Some(&mask).filter(|_| masked);
            let mut filters = PackedConv2d::prepare(engine, &shape, filters, mask, &options)?;
            if rebuild && let Some(mask) = mask {
                let result = filters.rebuild(engine, mask);
                assert_eq!(result, if keep_source { Ok(()) } else { Err(KernelError::NoSource) });
            }
            // With strides of 0, few elements in memory may stand for too many.
            if !x_place.few() || !y_place.few() {
                return Err(KernelError::Overflow { what: "the harness" });
            }
            let [x_in, dy_in] = [x_place.read(&x)?, y_place.read(&dy)?];
            conv2d::forward(engine, &filters, x_in, &epilogue, y_place.write(&mut y)?, &mut space)?;
            let gate = gated.then_some(x_in);
            conv2d::input_gradient(engine, &filters, dy_in, gate, x_place.write(&mut dx)?, &mut space)?;
            let dw = MatMut::row_major(dw.get_mut(), outputs, columns)?;
            conv2d::weight_gradient(engine, &shape, dy_in, x_in, dw, &mut space)
        };
        let result = call();
        (result, bits(y.get()), bits(dx.get()), bits(dw.get()))
    });
    let usual = |place: &Placed, sizes: [usize; 4]| {
        let spanned =
            place.sizes.iter().zip(place.strides).map(|(&size, stride)| size.saturating_mul(stride));
        place.sizes == sizes && spanned.max().is_some_and(|most| most <= MOST)
    };
    let sizes = [channels, height, width, outputs, kernel[0], kernel[1], shape.stride, shape.padding, batch];
    let ordinary = sizes.into_iter().all(|size| size <= 100) && shape.stride > 0;
    let fit = lengths.fit && ordinary && y_place.sizes == [batch, outputs, out_height, out_width];
    // For sizes beyond memory, a product of sizes is 0 or overflows depending on the order of factors.
    if ordinary && !lengths.fit {
        assert!(found.0.is_err());
    }
    if fit && usual(&x_place, x_place.sizes) && usual(&y_place, y_place.sizes) {
        let harmless = [KernelError::Overlap.code(), KernelError::OutOfBounds { needed: 0, found: 0 }.code()];
        assert!(found.0.as_ref().map_or_else(|e| harmless.contains(&e.code()), |()| true), "{:?}", found.0);
    }
    Ok(())
}
