// SPDX-License-Identifier: MIT OR Apache-2.0
//! How many calls of one client may wait for an answer at the same time: for the core, for systemd, or for a person whom polkit asks.

use super::error::Error;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use zbus::message::Header;

/// So many. A program that needs more than one after another does not need this many.
const MOST: usize = 32;

/// Those of all clients, by their unique names.
#[derive(Debug, Clone, Default)]
pub(super) struct Turns(Arc<Mutex<HashMap<String, usize>>>);

/// A call that waits; dropping it makes room for another one.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Turns,
    client: String,
}

impl Turns {
    /// Lets a call wait.
    ///
    /// # Errors
    ///
    /// If too many of the same client do.
    pub(super) fn take(&self, call: &Header<'_>) -> Result<Turn, Error> {
        let client = call.sender().map_or(String::new(), ToString::to_string);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = all.entry(client.clone()).or_default();
        if *waiting >= MOST {
            return Err(Error::limits_exceeded(&format!(
                "{MOST} calls of yours are being answered; wait for one of them"
            )));
        }
        *waiting += 1;
        let turns = self.clone();
        Ok(Turn { turns, client })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut all = self.turns.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(waiting) = all.get_mut(&self.client) else {
            return;
        };
        *waiting -= 1;
        if *waiting == 0 {
            all.remove(&self.client);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zbus::Message;

    #[test]
    fn a_client_has_so_many_turns_and_others_have_theirs() {
        let call = |sender: &str| {
            let call = Message::method_call("/x", "Y").sender(sender.to_owned());
            call.build(&()).unwrap()
        };
        let turns = Turns::default();
        let (one, other) = (call(":1.1"), call(":1.2"));
        let mut taken: Vec<Turn> = (0..MOST)
            .map(|_| turns.take(&one.header()).unwrap())
            .collect();
        let error = turns.take(&one.header()).unwrap_err();
        let name = zbus::DBusError::name(&error).to_string();
        assert_eq!(name, "org.freedesktop.DBus.Error.LimitsExceeded");
        let others = turns.take(&other.header()).unwrap();
        taken.pop();
        taken.push(turns.take(&one.header()).unwrap());
        drop((taken, others));
        assert!(turns.0.lock().unwrap().is_empty());
    }
}
