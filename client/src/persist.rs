//! Where an outbox survives the process.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::core::{Cmid, Record};

/// Keeps messages that wait for their acknowledgement. Called by the driver's task: it must not block for long.
pub trait OutboxStore: Send + 'static {
    /// The messages an earlier life left, in the order they were handed in.
    ///
    /// # Errors
    /// Any that make it unwise to go on: the client does not start.
    fn load(&mut self) -> io::Result<Vec<Record>>;

    /// Keeps a message, before it is sent for the first time.
    ///
    /// # Errors
    /// The message is then not sent.
    fn put(&mut self, record: &Record) -> io::Result<()>;

    /// The message's fate is certain. What cannot be forgotten is sent again in the next life, which does no harm.
    fn forget(&mut self, cmid: &Cmid);
}

/// Keeps nothing: the outbox lives as long as the client.
#[derive(Clone, Copy, Debug, Default)]
pub struct MemoryOutbox;

impl OutboxStore for MemoryOutbox {
    fn load(&mut self) -> io::Result<Vec<Record>> {
        Ok(Vec::new())
    }

    fn put(&mut self, _: &Record) -> io::Result<()> {
        Ok(())
    }

    fn forget(&mut self, _: &Cmid) {}
}

/// A file of JSON lines that survives the death of the process (not of the machine: lines are not synced to disk).
///
/// Only one client may use it at a time.
#[derive(Debug)]
pub struct FileOutbox {
    file: File,
    waiting: usize,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Put(Record),
    Forget(Cmid),
}

impl FileOutbox {
    /// Opens the file, or makes it, readable for the user only.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt;
            options.mode(0o600);
        }
        Ok(Self { file: options.open(path)?, waiting: 0 })
    }

    fn write(&mut self, line: &Line) -> io::Result<()> {
        let mut text = serde_json::to_string(line)?;
        text.push('\n');
        self.file.write_all(text.as_bytes())
    }
}

impl OutboxStore for FileOutbox {
    fn load(&mut self) -> io::Result<Vec<Record>> {
        let mut records = BTreeMap::new();
        let mut places = BTreeMap::new();
        let mut lines = BufReader::new(&self.file).lines().enumerate().peekable();
        while let Some((number, line)) = lines.next() {
            match serde_json::from_str(&line?) {
                Ok(Line::Put(record)) => {
                    places.insert(record.cmid, number);
                    records.insert(number, record);
                }
                Ok(Line::Forget(cmid)) => {
                    if let Some(place) = places.remove(&cmid) {
                        records.remove(&place);
                    }
                }
                // The last line may have been cut off by the end of the process: it was never acted on.
                Err(_) if lines.peek().is_none() => {}
                Err(error) => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, format!("line {}: {error}", number + 1)));
                }
            }
        }
        drop(lines);
        // Written anew, so that it does not grow for ever.
        let records: Vec<Record> = records.into_values().collect();
        self.file.set_len(0)?;
        for record in &records {
            self.write(&Line::Put(record.clone()))?;
        }
        self.waiting = records.len();
        Ok(records)
    }

    fn put(&mut self, record: &Record) -> io::Result<()> {
        self.write(&Line::Put(record.clone()))?;
        self.waiting += 1;
        Ok(())
    }

    fn forget(&mut self, cmid: &Cmid) {
        self.waiting = self.waiting.saturating_sub(1);
        let done = if self.waiting == 0 { self.file.set_len(0) } else { self.write(&Line::Forget(*cmid)) };
        if let Err(error) = done {
            tracing::warn!(%error, "the outbox file cannot be written: the message will be sent again");
        }
    }
}

#[cfg(test)]
mod tests {
    use roost_wire::ConvId;

    use super::*;

    fn record(number: u128) -> Record {
        Record {
            cmid: Cmid::from_bits(number),
            conv: ConvId::new("c_a").expect("an id"),
            text: format!("text\n{number}"),
            publish: false,
            seen: Some(3),
        }
    }

    #[test]
    fn f38_a_file_outbox_gives_back_what_was_not_forgotten_in_order() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("outbox");
        let mut outbox = FileOutbox::open(&path).expect("opens");
        // Cmids out of order: the order of handing in counts.
        for number in [3, 1, 2] {
            outbox.put(&record(number)).expect("writes");
        }
        outbox.forget(&Cmid::from_bits(1));
        OpenOptions::new().append(true).open(&path).expect("opens").write_all(b"{\"put\":{\"cm").expect("writes");
        for _ in 0..2 {
            let mut outbox = FileOutbox::open(&path).expect("opens");
            assert_eq!(outbox.load().expect("loads"), [record(3), record(2)]);
        }
        let mut outbox = FileOutbox::open(&path).expect("opens");
        outbox.load().expect("loads");
        outbox.forget(&Cmid::from_bits(2));
        outbox.forget(&Cmid::from_bits(3));
        assert_eq!(std::fs::metadata(&path).expect("is there").len(), 0, "nothing waits, nothing is kept");
    }

    #[test]
    fn a_damaged_file_is_not_overwritten() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("outbox");
        std::fs::write(&path, "what is this\n{}\n").expect("writes");
        let error = FileOutbox::open(&path).expect("opens").load().expect_err("refused");
        assert!(error.to_string().contains("line 1"), "{error}");
        assert!(std::fs::read_to_string(&path).expect("is there").starts_with("what"));
    }
}
