//! Files with wrong content and right checksums, for tests: what decoders must
//! survive without help.

use std::sync::atomic::AtomicBool;

use super::checkpoint;
use super::fault::FileError;
use super::frame::{END, FileHeader, FrameFile, FrameWriter};
use super::storage::Storage;
use super::storage::simulator::Simulator;

/// Changes the content of a frame or section: told their number.
pub(crate) type Change<'a> = &'a mut dyn FnMut(usize, &mut Vec<u8>);

/// The bytes of a file after a change.
pub(crate) fn forge(folder: &Simulator, name: &str, change: Change<'_>) -> Result<Vec<u8>, FileError> {
    let scratch = Simulator::new(0);
    if checkpoint::parse_name(name).is_some() {
        checkpoint::forge(folder, &scratch, name, change)?;
    } else {
        forge_frames(folder, &scratch, name, change)?;
    }
    Ok(scratch.read(name))
}

fn forge_frames(folder: &Simulator, to: &Simulator, name: &str, change: Change<'_>) -> Result<(), FileError> {
    let file = folder.open(name).unwrap();
    let header = FileHeader::read(file.as_ref(), name)?.unwrap();
    let frames = FrameFile { file: file.as_ref(), name, header, is_followed: false, is_intact: false };
    let mut all = Vec::new();
    let tail = frames.scan(&mut |frame| {
        all.push((frame.kind, frame.payload.to_vec()));
        Ok(())
    })?;
    let mut writer = FrameWriter::start(to, name, header)?;
    for (number, (kind, mut payload)) in all.into_iter().enumerate() {
        change(number, &mut payload);
        writer.push(kind, |out| out.raw(&payload))?;
    }
    if tail.is_ended {
        writer.push(END, |_| {})?;
    }
    writer.write()
}

pub(super) fn never() -> &'static AtomicBool {
    static NEVER: AtomicBool = AtomicBool::new(false);
    &NEVER
}
