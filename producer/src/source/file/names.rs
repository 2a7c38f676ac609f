//! The names of partitions. A partition keeps its name for as long as its content is found, wherever the file is moved; a
//! file that takes the path of another gets a name of its own.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io;

use file_id::FileId;

use crate::source::content::Candidate;
use crate::source::decode::InputFile;
use crate::source::{Content, Known};

/// The names in use, and what is known of partitions that have not been found.
#[derive(Debug, Default)]
pub(super) struct Names {
    used: HashSet<String>,
    remembered: BTreeMap<String, Known>,
}

/// The name of a partition, and what is known of it from an earlier run.
pub(super) struct Claim {
    pub(super) name: String,
    pub(super) known: Option<Known>,
}

impl Names {
    /// Forgets the names in use, and remembers the partitions of earlier runs.
    pub(super) fn remember(&mut self, known: BTreeMap<String, Known>) {
        self.used.clear();
        self.remembered = known;
    }

    /// Claims the file's own name if an earlier run has read the same content under it.
    pub(super) fn claim_own(&mut self, file: &InputFile) -> Option<Claim> {
        let known = *self.remembered.get(&file.name)?;
        let same = match &known.content {
            Some(content) => holds(file, content).unwrap_or(false),
            // An earlier version has saved the name alone.
            None => true,
        };
        same.then(|| self.claim(file.name.clone()))
    }

    /// Claims the name under which an earlier run has read the file's content, or else a name that nobody has used.
    pub(super) fn claim_any(&mut self, file: &InputFile) -> Claim {
        self.claim_known(file).unwrap_or_else(|| self.claim_new(file))
    }

    /// Claims the name under which an earlier run has read the file's content.
    pub(super) fn claim_known(&mut self, file: &InputFile) -> Option<Claim> {
        if let Some(claim) = self.claim_own(file) {
            return Some(claim);
        }
        let name = self.find(file)?;
        tracing::info!(
            file = file.name,
            partition = name,
            "a file was renamed; its partition goes on"
        );
        Some(self.claim(name))
    }

    /// Claims a name that nobody has used.
    pub(super) fn claim_new(&mut self, file: &InputFile) -> Claim {
        let is_free = |name: &String| !self.used.contains(name) && !self.remembered.contains_key(name);
        let numbered = (2_u64..).map(|number| format!("{}#{number}", file.name));
        let mut names = std::iter::once(file.name.clone()).chain(numbered).filter(is_free);
        let name = names.next().unwrap_or_else(|| file.name.clone());
        if name != file.name {
            tracing::warn!(
                file = file.name,
                partition = name,
                "another file has taken the place of one that was read; it is read from its start, as a new partition"
            );
        }
        self.claim(name)
    }

    /// Returns whether someone may be writing a file once more that an earlier run has read, and has not come to the end of
    /// what was read.
    pub(super) fn may_hold(&self, stranger: &mut Stranger<'_>) -> bool {
        let mut contents = self.remembered.values().filter_map(|known| known.content);
        contents.any(|content| stranger.may_grow_into(&content).unwrap_or(true))
    }

    fn claim(&mut self, name: String) -> Claim {
        let known = self.remembered.remove(&name);
        self.used.insert(name.clone());
        Claim { name, known }
    }

    /// Returns the remembered partition that has read the file's content.
    fn find(&self, file: &InputFile) -> Option<String> {
        if self.remembered.is_empty() {
            return None;
        }
        let mut stranger = Stranger::new(file).ok()?;
        let mut remembered = self.remembered.iter();
        let found = remembered.find(|(_, known)| {
            let content = known.content.as_ref();
            content.is_some_and(|content| stranger.holds(content).unwrap_or(false))
        });
        found.map(|(name, _)| name.clone())
    }
}

/// Returns whether the file is the one whose `content` was read, grown or not.
pub(super) fn holds(file: &InputFile, content: &Content) -> io::Result<bool> {
    Stranger::new(file)?.holds(content)
}

/// A file that may be one that was read before. It is opened at most once, and not if its size tells already.
pub(super) struct Stranger<'a> {
    pub(super) file: &'a InputFile,
    size: u64,
    candidate: Option<Candidate<File>>,
    id: Option<Option<FileId>>,
}

impl<'a> Stranger<'a> {
    pub(super) fn new(file: &'a InputFile) -> io::Result<Self> {
        Ok(Self {
            file,
            size: file.metadata()?.len(),
            candidate: None,
            id: None,
        })
    }

    /// Returns which file of the file system it is.
    pub(super) fn id(&mut self) -> Option<FileId> {
        let path = &self.file.path;
        *self.id.get_or_insert_with(|| file_id::get_file_id(path).ok())
    }

    /// Returns whether this is the file whose `content` was read, grown or not.
    pub(super) fn holds(&mut self, content: &Content) -> io::Result<bool> {
        let has_footer = self.file.has_footer();
        if self.size < content.bytes || (has_footer && self.size != content.bytes) {
            return Ok(false);
        }
        match has_footer {
            true => self.candidate()?.equals(content),
            false => self.candidate()?.begins_with(content),
        }
    }

    /// Returns whether it has less than `content`, and as far as can be told the same.
    pub(super) fn may_grow_into(&mut self, content: &Content) -> io::Result<bool> {
        Ok(self.size < content.bytes && self.candidate()?.may_grow_into(content))
    }

    fn candidate(&mut self) -> io::Result<&mut Candidate<File>> {
        let candidate = match self.candidate.take() {
            Some(candidate) => candidate,
            None => Candidate::new(self.file.open()?, self.size)?,
        };
        Ok(self.candidate.insert(candidate))
    }
}
