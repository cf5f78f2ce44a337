// SPDX-License-Identifier: MIT OR Apache-2.0
//! Somebody who shows notifications on the session bus, as org.freedesktop.Notifications says, to a test instead of a person: each one
//! is a line of JSON on standard output. The first line is `ready`. With the argument `--plain`, markup is not understood.
//!
//! <https://specifications.freedesktop.org/notification-spec/>

use std::collections::{BTreeMap, HashMap};
use std::io::{Write, stdout};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;
use zbus::object_server::SignalEmitter;
use zbus::{OwnedVariant, fdo, interface};

const PATH: &str = "/org/freedesktop/Notifications";

/// What is on the screen.
struct Notifications {
    markup: bool,
    shown: BTreeMap<u32, String>,
    last: u32,
}

#[interface(name = "org.freedesktop.Notifications")]
impl Notifications {
    fn get_capabilities(&self) -> Vec<&'static str> {
        let mut capabilities = vec!["body", "persistence"];
        if self.markup {
            capabilities.push("body-markup");
        }
        capabilities
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "that is how many the interface has"
    )]
    fn notify(
        &mut self,
        app_name: &str,
        replaces_id: u32,
        app_icon: &str,
        summary: &str,
        body: &str,
        actions: Vec<String>,
        hints: HashMap<String, OwnedVariant>,
        expire_timeout: i32,
    ) -> u32 {
        // One that is not there any more is a new one, by the same number.
        let id = match replaces_id {
            0 => {
                self.last += 1;
                self.last
            }
            id => id,
        };
        let replaced = self.shown.insert(id, summary.to_owned()).is_some();
        let urgency = hints.get("urgency").cloned();
        let urgency = urgency.and_then(|urgency| u8::try_from(urgency).ok());
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        say(&json!({
            "time_msec": now.map_or(0, |now| now.as_millis()).to_string(),
            "id": id,
            "app_name": app_name,
            "replaces_id": replaces_id,
            "replaced": replaced,
            "app_icon": app_icon,
            "summary": summary,
            "body": body,
            "actions": actions,
            "urgency": urgency,
            "expire_timeout": expire_timeout,
        })
        .to_string());
        id
    }

    async fn close_notification(
        &mut self,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
        id: u32,
    ) -> fdo::Result<()> {
        if self.shown.remove(&id).is_none() {
            return Err(fdo::Error::Failed("no such notification".into()));
        }
        // 3: closed by a call of this method.
        Ok(Self::notification_closed(&emitter, id, 3).await?)
    }

    #[zbus(out_args("name", "vendor", "version", "spec_version"))]
    fn get_server_information(&self) -> (&'static str, &'static str, &'static str, &'static str) {
        ("bpf-oomd-notifications", "bpf-oomd", "1", "1.2")
    }

    #[zbus(signal)]
    async fn notification_closed(
        emitter: &SignalEmitter<'_>,
        id: u32,
        reason: u32,
    ) -> zbus::Result<()>;

    #[zbus(signal)]
    async fn action_invoked(
        emitter: &SignalEmitter<'_>,
        id: u32,
        action_key: &str,
    ) -> zbus::Result<()>;
}

fn say(line: &str) {
    let mut out = stdout().lock();
    let written = writeln!(out, "{line}").and_then(|()| out.flush());
    written.expect("somebody reads");
}

fn main() {
    let markup = std::env::args().nth(1).as_deref() != Some("--plain");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("an event loop");
    runtime.block_on(async {
        let notifications = Notifications {
            markup,
            shown: BTreeMap::new(),
            last: 0,
        };
        let bus = zbus::connection::Builder::session()
            .serve_at(PATH, notifications)
            .name("org.freedesktop.Notifications")
            .build()
            .await
            .expect("the name on the session bus");
        say("ready");
        bus.closed().await;
    });
}
