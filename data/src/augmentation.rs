//! Training images changed at random.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::random::Stream;

/// How a training image is changed, at random each time it is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Augmentation {
    /// Not at all
    #[default]
    None,
    /// A crop of the image's own size out of the image with 4 black pixels around it, mirrored left to right by a fair coin
    FlipCrop,
}

/// Black pixels on each side.
const PADDING: usize = 4;

impl Augmentation {
    /// Draws the changes of this many `images`, one after another, into `changes`, which stays empty without augmentation.
    pub fn draw(self, images: usize, stream: &mut Stream, changes: &mut Vec<Change>) {
        changes.clear();
        if self == Self::FlipCrop {
            changes.extend((0..images).map(|_| {
                let mirrored = stream.coin();
                let [row, column] = std::array::from_fn(|_| stream.below(2 * PADDING as u32 + 1) as usize);
                Change { mirrored, row, column }
            }));
        }
    }
}

/// The change of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    mirrored: bool,
    /// Where the crop begins in the padded image.
    row: usize,
    column: usize,
}

impl Change {
    /// The pixels of the changed image from `first` on; `image` is `[channels, rows, columns]`, as `shape` says.
    pub(super) fn apply(self, image: &[u8], [_, rows, columns]: [usize; 3], first: usize, pixels: &mut [u8]) {
        for (pixel, at) in pixels.iter_mut().zip(first..) {
            let (plane, row, column) = (at / (rows * columns), at / columns % rows, at % columns);
            let column = if self.mirrored { columns - 1 - column } else { column };
            // Above and left of the image it wraps to beyond the last.
            let [row, column] = [row + self.row, column + self.column].map(|at| at.wrapping_sub(PADDING));
            let inside = row < rows && column < columns;
            *pixel = if inside { image[(plane * rows + row) * columns + column] } else { 0 };
        }
    }
}

display_by_name!(Augmentation);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Purpose;

    #[test]
    fn changed_images_are_mirrored_and_moved() {
        let (shape @ [_, rows, columns], image) = ([3, 5, 6], (1..=90).collect::<Vec<u8>>());
        let (mut changes, mut stream) = (Vec::new(), Stream::new(1, Purpose::Augmentation, 0, 0));
        Augmentation::FlipCrop.draw(5000, &mut stream, &mut changes);
        for change in &changes {
            let mut found = [255; 90];
            change.apply(&image, shape, 0, &mut found[..7]);
            change.apply(&image, shape, 7, &mut found[7..]);
            let lines =
                found.chunks(columns).zip((0..3).flat_map(|plane| (0..rows).map(move |row| (plane, row))));
            for (line, (plane, row)) in lines {
                let source = (row + change.row).checked_sub(PADDING).filter(|&row| row < rows);
                let source = source.map(|row| &image[(plane * rows + row) * columns..][..columns]);
                let padded = [&[0; PADDING], source.unwrap_or(&[0; 6]), &[0; PADDING]].concat();
                let mut expected = padded[change.column..][..columns].to_vec();
                if change.mirrored {
                    expected.reverse();
                }
                assert_eq!(line, expected, "{change:?}");
            }
        }
        // All 2 · 9 · 9 combinations of mirroring and offsets are drawn.
        changes.sort_by_key(|change| (change.mirrored, change.row, change.column));
        changes.dedup();
        assert_eq!(changes.len(), 162);
    }
}
