// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is the same for every kind of package.

use std::path::Path;

use crate::files;
use crate::installed::{EDITED, assert_gone, assert_runs, assert_upgrades, assert_works, edit};

/// A kind of package. The installed one goes when it is dropped, with all that is left of it, however the test went.
pub trait Package: Sized {
    /// Installs the first one, and sees to it that it is started.
    fn install() -> Self;
    /// Installs another one over it, by its number.
    fn upgrade(&self, number: u32);
    /// Removes it, and leaves what an administrator has edited.
    fn remove(&self);
}

/// It runs and works.
#[track_caller]
pub fn runs_and_works<P: Package>() -> P {
    let package = P::install();
    assert_runs();
    assert_works();
    package
}

/// After an upgrade another daemon does the same. What is attached was in force all the time, and edited files are as they were.
#[track_caller]
pub fn is_upgraded<P: Package>() {
    let package = P::install();
    let _tree = edit();
    assert_upgrades(|| package.upgrade(2));
}

/// When it was removed it is gone but for edited files, and in the end those too.
#[track_caller]
pub fn is_removed<P: Package>() {
    let before = files::all();
    let package = P::install();
    let tree = edit();
    package.remove();
    assert_gone();
    assert!(Path::new(EDITED).exists());
    drop(tree);
    drop(package);
    assert_gone();
    files::assert_same_as(&before);
}
