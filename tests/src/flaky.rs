//! An object store that fails on command.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// `ENOSPC`: the disk is full.
const NO_SPACE: i32 = 28;
/// `EPIPE`: the connection broke.
const BROKEN_PIPE: i32 = 32;

/// An object store that injects faults into another; clones share the faults.
#[derive(Clone, Debug)]
pub struct FlakyStore {
    inner: Arc<dyn ObjectStore>,
    faults: Arc<Faults>,
}

#[derive(Debug, Default)]
struct Faults {
    /// Every `one_in`-th operation fails; 0 for none.
    one_in: AtomicU64,
    operations: AtomicU64,
    full: AtomicBool,
    failed: AtomicU64,
}

impl FlakyStore {
    /// Wraps `inner`, at first without faults.
    pub fn new(inner: impl ObjectStore) -> Self {
        Self {
            inner: Arc::new(inner),
            faults: Arc::default(),
        }
    }

    /// Makes every `one_in`-th operation fail from now on; 0 for none.
    pub fn fail_one_in(&self, one_in: u64) {
        self.faults.one_in.store(one_in, Relaxed);
    }

    /// Sets whether every write fails from now on, as on a full disk.
    pub fn set_full(&self, full: bool) {
        self.faults.full.store(full, Relaxed);
    }

    /// Returns the number of operations that have failed.
    pub fn failed(&self) -> u64 {
        self.faults.failed.load(Relaxed)
    }

    fn may_go_on(&self) -> Result<()> {
        let one_in = self.faults.one_in.load(Relaxed);
        if one_in > 0
            && self
                .faults
                .operations
                .fetch_add(1, Relaxed)
                .is_multiple_of(one_in)
        {
            return Err(self.failure(BROKEN_PIPE));
        }
        Ok(())
    }

    fn may_write(&self) -> Result<()> {
        if self.faults.full.load(Relaxed) {
            return Err(self.failure(NO_SPACE));
        }
        self.may_go_on()
    }

    fn failure(&self, errno: i32) -> Error {
        self.faults.failed.fetch_add(1, Relaxed);
        Error::Generic {
            store: "flaky",
            source: std::io::Error::from_raw_os_error(errno).into(),
        }
    }
}

impl fmt::Display for FlakyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FlakyStore({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for FlakyStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.may_write()?;
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.may_write()?;
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.may_go_on()?;
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        match self.may_go_on() {
            Ok(()) => self.inner.delete_stream(locations),
            Err(error) => futures::stream::once(async { Err(error) }).boxed(),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.may_go_on() {
            Ok(()) => self.inner.list(prefix),
            Err(error) => futures::stream::once(async { Err(error) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.may_go_on()?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.may_write()?;
        self.inner.copy_opts(from, to, options).await
    }
}
