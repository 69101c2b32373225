//! `history.csv`: how each epoch of a run went, and its curves.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::input::FileError;
use crate::plot::{Axis, Chart, Picture, Series, Style};

/// An epoch of a run, a line of `history.csv`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Which epoch of its phase, from 1.
    pub epoch: usize,
    /// Pretraining, pruning or finetuning.
    pub phase: String,
    /// Mean training loss, each image seen before the step it was part of.
    pub train_loss: f64,
    /// Mean cross-entropy on the images held out, after the epoch; `None` where there are none, or where it is not finite.
    pub validation_loss: Option<f64>,
    /// Accuracy on them, a fraction.
    pub validation_accuracy: Option<f64>,
    /// The learning rate.
    pub learning_rate: f32,
    /// Wall time in seconds, evaluation not included.
    pub seconds: f64,
}

/// The content of `history.csv`.
pub(super) fn csv(history: &[EpochRecord]) -> Result<Vec<u8>, Error> {
    let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    let heads = [
        "epoch",
        "phase",
        "train_loss",
        "validation_loss",
        "validation_accuracy",
        "learning_rate",
        "seconds",
    ];
    writer.write_record(heads).map_err(Error::failed)?;
    history.iter().try_for_each(|epoch| writer.serialize(epoch)).map_err(Error::failed)?;
    writer.into_inner().map_err(|error| Error::failed(error.into_error()))
}

/// The epochs in a `history.csv`.
pub(super) fn read(file: &Path) -> Result<Vec<EpochRecord>, FileError<io::Error>> {
    crate::input::parse(file, |bytes| {
        Ok(csv::Reader::from_reader(bytes).deserialize().collect::<Result<_, _>>()?)
    })
}

/// Loss, accuracy and learning rate against the epochs of all phases, counted through.
pub(super) fn curves(history: &[EpochRecord]) -> Picture {
    type Column<'a> = (&'a str, &'a dyn Fn(&EpochRecord) -> Option<f64>);
    let chart = |title: &str, columns: &[Column<'_>]| {
        let mut series = Vec::new();
        for (colour, (name, value)) in columns.iter().enumerate() {
            let mut from = 1;
            for (number, phase) in history.chunk_by(|a, b| a.phase == b.phase).enumerate() {
                let points =
                    phase.iter().zip(from..).filter_map(|(epoch, x)| Some([x as f64, value(epoch)?]));
                let (name, colour) = (format!("{}{name}", phase[0].phase), number * columns.len() + colour);
                let style = if phase.len() > 30 { Style::Line } else { Style::Solid };
                series.push(Series::new(name, colour, style, points.collect()));
                from += phase.len();
            }
        }
        Chart::new(title, Axis::whole("epoch"), Axis::linear(title).including(0.0, 0.0), series)
    };
    Picture::Charts(vec![
        chart("loss", &[(", train", &|e| Some(e.train_loss)), (", validation", &|e| e.validation_loss)]),
        chart("validation accuracy", &[("", &|e| e.validation_accuracy)]),
        chart("learning rate", &[("", &|e| Some(f64::from(e.learning_rate)))]),
    ])
}
