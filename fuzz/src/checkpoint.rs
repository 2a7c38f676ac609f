//! Checkpoints, as a producer loads them.

use windrow_producer::checkpoint::testing::loaded_and_saved;

use crate::block_on;

/// Checks that a loaded checkpoint, saved and loaded again, is unchanged.
pub(crate) fn loaded(bytes: &[u8]) {
    block_on(async {
        if let Ok(saved) = loaded_and_saved(bytes).await {
            let again = loaded_and_saved(&saved).await;
            let again = again.expect("what is saved is loaded");
            assert_eq!(String::from_utf8_lossy(&again), String::from_utf8_lossy(&saved));
        }
    });
}
