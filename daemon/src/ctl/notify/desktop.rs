// SPDX-License-Identifier: MIT OR Apache-2.0
//! The desktop, as programs tell it what a person should know: org.freedesktop.Notifications on the session bus.
//!
//! <https://specifications.freedesktop.org/notification-spec/>

use super::words::{Notification, escaped};
use futures_util::StreamExt;
use std::collections::HashMap;
use std::time::Duration;
use zbus::message::Type;
use zbus::names::OwnedUniqueName;
use zbus::{Connection, MatchRule, Message, MessageStream, Variant};

const NAME: &str = "org.freedesktop.Notifications";
const PATH: &str = "/org/freedesktop/Notifications";

/// Whom the desktop shows as the one who tells.
const APPLICATION: &str = "bpf-oomd";

/// An answer that takes longer than this does not come.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Why nothing was shown.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotShown {
    #[error("the session bus cannot be used")]
    NoBus(#[source] zbus::Error),
    #[error("nobody shows notifications in this session ({NAME})")]
    Nobody,
    #[error("the notification was not shown")]
    Refused(#[source] zbus::Error),
}

impl From<zbus::Error> for NotShown {
    fn from(error: zbus::Error) -> Self {
        match super::super::daemon::NoAnswer::from(error) {
            super::super::daemon::NoAnswer::Trouble(error) => NotShown::Refused(error),
            _ => NotShown::Nobody,
        }
    }
}

/// What was shown.
#[derive(Debug)]
pub(super) struct Show {
    /// Its number.
    pub(super) id: u32,
    /// Whether it replaced the one before.
    pub(super) replaces: bool,
    /// The text that was sent.
    pub(super) body: String,
}

/// The session bus.
#[derive(Debug)]
pub(super) struct Desktop {
    bus: Connection,
    changes: MessageStream,
    /// The last notification, and who showed it: somebody else counts otherwise.
    last: Option<(OwnedUniqueName, u32)>,
}

impl Desktop {
    /// Connects to the session bus. Whether somebody shows notifications there is seen later.
    pub(super) async fn connect() -> zbus::Result<Self> {
        let bus = zbus::connection::Builder::session()
            .method_timeout(ANSWER_TIMEOUT)
            .build()
            .await?;
        let rule = MatchRule::builder()
            .msg_type(Type::Signal)
            .sender("org.freedesktop.DBus")
            .interface("org.freedesktop.DBus")
            .member("NameOwnerChanged")
            .arg(0, NAME)
            .build()?;
        let changes = MessageStream::for_match_rule(rule, &bus, None).await?;
        Ok(Desktop {
            bus,
            changes,
            last: None,
        })
    }

    /// Waits until somebody else shows notifications. None if the bus is gone.
    pub(super) async fn changed(&mut self) -> Option<()> {
        while let Some(message) = self.changes.next().await {
            let owners = message.ok()?.body().deserialize();
            let (_, _, now): (String, String, String) = owners.ok()?;
            if !now.is_empty() {
                return Some(());
            }
        }
        None
    }

    /// Shows a notification, perhaps in the place of the last one.
    pub(super) async fn show(
        &mut self,
        notification: &Notification,
        replace: bool,
    ) -> Result<Show, NotShown> {
        let capabilities = self.call("GetCapabilities", &()).await?;
        let shows = capabilities.header().sender().map(ToString::to_string);
        let capabilities: Vec<String> = capabilities.body().deserialize()?;
        let has = |name: &str| capabilities.iter().any(|capability| capability == name);
        let body = match has("body-markup") {
            true => escaped(&notification.body),
            false => notification.body.clone(),
        };
        let last = self.last.as_ref();
        let last = last.filter(|(by, _)| replace && shows.as_deref() == Some(by.as_str()));
        let replaces = last.map_or(0, |(_, id)| *id);
        // 2: critical. Work may have been lost, so it is to stay until somebody has seen it.
        let hints = HashMap::from([("urgency", Variant::from(2_u8))]);
        let actions: &[&str] = &[];
        // -1: the desktop knows how long.
        let arguments = (
            APPLICATION,
            replaces,
            &*notification.icon,
            &*notification.summary,
            &*body,
            actions,
            hints,
            -1_i32,
        );
        let reply = self.call("Notify", &arguments).await?;
        let id: u32 = reply.body().deserialize()?;
        let by = reply.header().sender().map(|name| name.to_owned().into());
        self.last = by.map(|by| (by, id));
        Ok(Show {
            id,
            replaces: replaces != 0,
            body,
        })
    }

    async fn call<B>(&self, method: &str, body: &B) -> zbus::Result<Message>
    where
        B: serde::Serialize + zbus::wire::DynamicType,
    {
        let call = self
            .bus
            .call_method(Some(NAME), PATH, Some(NAME), method, body);
        call.await
    }
}
