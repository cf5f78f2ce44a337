// SPDX-License-Identifier: MIT OR Apache-2.0
//! A terminal as a screen that is drawn again and again, until somebody presses a key.

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use std::io::{self, Write, stdin, stdout};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep;

/// The other screen, so that what was on the terminal is there again at the end; and no cursor.
const BEGIN: &str = "\x1b[?1049h\x1b[?25l";
const END: &str = "\x1b[?25h\x1b[?1049l";

/// The screen. Dropped, the terminal is as it was.
#[derive(Debug)]
pub(super) struct Screen {
    before: Termios,
    keys: AsyncFd<io::Stdin>,
    interrupted: Signal,
    terminated: Signal,
    resized: Signal,
}

/// Why a pause is over.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// It was long enough, or something else is to be drawn.
    Draw,
    /// Nothing more is to be shown.
    Quit,
}

impl Screen {
    /// Takes the terminal that standard input and output are.
    ///
    /// # Errors
    ///
    /// If they are none.
    pub(super) fn take() -> io::Result<Self> {
        let before = tcgetattr(stdin())?;
        // SAFETY: standard input stays open as long as the program runs.
        let keys = unsafe { AsyncFd::register_with_interest(stdin(), Interest::READABLE) }?;
        let screen = Screen {
            keys,
            interrupted: signal(SignalKind::interrupt())?,
            terminated: signal(SignalKind::terminate())?,
            resized: signal(SignalKind::window_change())?,
            before,
        };
        let mut now = screen.before.clone();
        // Keys count when they are pressed and not with the next Return, and are not shown. Stopping it by a key is turned off, because
        // the terminal would be left as it is.
        now.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
        now.special_codes[rustix::termios::SpecialCodeIndex::VSUSP] = 0;
        tcsetattr(stdin(), OptionalActions::Now, &now)?;
        put(BEGIN)?;
        Ok(screen)
    }

    /// Draws a text. It should fit.
    pub(super) fn draw(&self, text: &str) -> io::Result<()> {
        put(&frame(text))
    }

    /// Waits for a time, or until something happens that matters.
    pub(super) async fn pause(&mut self, length: Duration) -> io::Result<Over> {
        tokio::select! {
            () = sleep(length) => Ok(Over::Draw),
            _ = self.resized.recv() => Ok(Over::Draw),
            _ = self.interrupted.recv() => Ok(Over::Quit),
            _ = self.terminated.recv() => Ok(Over::Quit),
            ready = self.keys.readable() => {
                ready?.clear_ready();
                let mut keys = [0; 16];
                let count = rustix::io::read(stdin(), &mut keys)?;
                let quit = count == 0 || keys[..count].contains(&b'q');
                Ok(if quit { Over::Quit } else { Over::Draw })
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // If the terminal is gone, there is nothing to put right.
        let _ = put(END);
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.before);
    }
}

/// A text over whatever is there. Each line is cleared where it ends and not before, so that nothing flickers.
fn frame(text: &str) -> String {
    let text = text.trim_end_matches('\n').replace('\n', "\x1b[K\r\n");
    format!("\x1b[H{text}\x1b[K\x1b[J")
}

fn put(text: &str) -> io::Result<()> {
    let mut out = stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_covers_the_one_before() {
        assert_eq!(frame("a\nb\n"), "\x1b[Ha\x1b[K\r\nb\x1b[K\x1b[J");
    }
}
