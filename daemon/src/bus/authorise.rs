// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who may change something: root, and whoever polkit says.
//!
//! polkit may ask a person and take its time. Each call waits for its own answer alone; neither the core nor another caller does.

use super::ANSWER_TIMEOUT;
use super::error::Error;
use crate::fault::causes;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::timeout;
use tracing::warn;
use zbus::message::{Flags, Header};
use zbus::names::UniqueName;
use zbus::{Connection, DBusError, Variant};

const POLKIT: &str = "org.freedesktop.PolicyKit1";
const AUTHORITY_PATH: &str = "/org/freedesktop/PolicyKit1/Authority";
const AUTHORITY: &str = "org.freedesktop.PolicyKit1.Authority";

/// How long a person is waited for.
const PERSON_TIMEOUT: Duration = Duration::from_secs(300);

/// Something that not everybody may do. Its id is one of units/usr/share/polkit-1/actions/org.bpfoomd1.policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    /// Set and reset policies at run time.
    SetPolicy,
    /// Let the daemon read its files again.
    Reload,
    /// Let it tell more, or less.
    SetLogLevel,
}

impl Deed {
    pub(super) fn action(self) -> &'static str {
        match self {
            Deed::SetPolicy => "org.bpfoomd1.set-policy",
            Deed::Reload => "org.bpfoomd1.reload",
            Deed::SetLogLevel => "org.bpfoomd1.set-log-level",
        }
    }
}

/// The user who makes a call, if that user may do so. `details` are shown to whoever is asked.
pub(super) async fn authorise(
    bus: &Connection,
    call: &Header<'_>,
    deed: Deed,
    details: &[(&str, &str)],
) -> Result<u32, Error> {
    let nobody = || Error::access_denied("it is not known who wants that");
    let sender = call.sender().ok_or_else(nobody)?;
    let uid = match timeout(ANSWER_TIMEOUT, user(bus, sender)).await {
        Ok(Ok(uid)) => uid,
        // Gone already, most probably.
        Ok(Err(_)) | Err(_) => return Err(nobody()),
    };
    if uid != 0 {
        let flags = call.primary().flags();
        let interactive = flags.contains(Flags::ALLOW_INTERACTIVE_AUTH);
        let limit = match interactive {
            true => PERSON_TIMEOUT,
            false => ANSWER_TIMEOUT,
        };
        let answer = ask_polkit(bus, sender, deed, details, interactive);
        let answer = timeout(limit, answer).await;
        verdict(deed, answer.unwrap_or_else(|_| Err(silent())))?;
    }
    Ok(uid)
}

fn silent() -> zbus::Error {
    zbus::Error::Failure("no answer in time".into())
}

async fn user(bus: &Connection, sender: &UniqueName<'_>) -> zbus::Result<u32> {
    let reply = bus
        .call_method(
            Some("org.freedesktop.DBus"),
            "/org/freedesktop/DBus",
            Some("org.freedesktop.DBus"),
            "GetConnectionUnixUser",
            &(sender,),
        )
        .await?;
    reply.body().deserialize()
}

/// What polkit says: whether it is allowed, whether it would be after somebody has proved who they are, and details.
type Authorisation = (bool, bool, HashMap<String, String>);

async fn ask_polkit(
    bus: &Connection,
    sender: &UniqueName<'_>,
    deed: Deed,
    details: &[(&str, &str)],
    interactive: bool,
) -> zbus::Result<Authorisation> {
    // CheckAuthorizationFlags: AllowUserInteraction.
    let flags = u32::from(interactive);
    let name = Variant::from(sender.as_str());
    let subject = ("system-bus-name", HashMap::from([("name", name)]));
    let details: HashMap<&str, &str> = details.iter().copied().collect();
    let reply = bus
        .call_method(
            Some(POLKIT),
            AUTHORITY_PATH,
            Some(AUTHORITY),
            "CheckAuthorization",
            &(subject, deed.action(), details, flags, ""),
        )
        .await?;
    reply.body().deserialize()
}

/// Whether that means yes. Without polkit only root may change anything.
fn verdict(deed: Deed, answer: zbus::Result<Authorisation>) -> Result<(), Error> {
    let action = deed.action();
    match answer {
        Ok((true, ..)) => Ok(()),
        Ok((false, true, _)) => Err(Error::interaction_needed(&format!(
            "{action} needs authentication"
        ))),
        Ok((false, false, _)) => Err(Error::access_denied(&format!("{action} is not allowed"))),
        Err(error) => {
            if !is_not_there(&error) {
                warn!("polkit cannot be asked about {action}: {}", causes(&error));
            }
            Err(Error::access_denied(&format!(
                "{action} is for root alone, because polkit cannot be asked"
            )))
        }
    }
}

fn is_not_there(error: &zbus::Error) -> bool {
    const NAMES: [&str; 2] = [
        "org.freedesktop.DBus.Error.ServiceUnknown",
        "org.freedesktop.DBus.Error.NameHasNoOwner",
    ];
    let name = match error {
        zbus::Error::MethodError(name, ..) => name.to_string(),
        zbus::Error::FDO(error) => error.name().to_string(),
        _ => return false,
    };
    // What systemd says about a service that the bus wants to have started, such as one that is masked.
    NAMES.contains(&name.as_str()) || name.starts_with("org.freedesktop.systemd1.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;
    use zbus::connection::Builder;

    const DENIED: &str = "org.freedesktop.DBus.Error.AccessDenied";
    const INTERACTION: &str = "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired";

    fn name(result: Result<(), Error>) -> String {
        result.map_or_else(|error| error.name().to_string(), |()| "allowed".into())
    }

    fn answer(allowed: bool, challenge: bool) -> zbus::Result<Authorisation> {
        Ok((allowed, challenge, HashMap::new()))
    }

    #[test]
    fn only_a_yes_is_a_yes() {
        let verdict = |answer| name(verdict(Deed::SetPolicy, answer));
        assert_eq!(verdict(answer(true, false)), "allowed");
        assert_eq!(verdict(answer(false, true)), INTERACTION);
        assert_eq!(verdict(answer(false, false)), DENIED);
        assert_eq!(verdict(Err(silent())), DENIED);
    }

    /// What a polkit was asked, and what it says.
    struct Authority {
        asked: std::sync::mpsc::Sender<String>,
        allowed: bool,
    }

    #[zbus::interface(name = "org.freedesktop.PolicyKit1.Authority")]
    impl Authority {
        fn check_authorization(
            &self,
            subject: (String, HashMap<String, zbus::OwnedVariant>),
            action: String,
            details: std::collections::BTreeMap<String, String>,
            flags: u32,
            cancellation: String,
        ) -> (bool, bool, HashMap<String, String>) {
            let (kind, subject) = subject;
            let name = subject["name"].try_clone().unwrap();
            let name = String::try_from(name).unwrap();
            let asked = format!("{kind} {name} {action} {details:?} {flags} {cancellation:?}");
            self.asked.send(asked).unwrap();
            (self.allowed, !self.allowed, HashMap::new())
        }
    }

    fn run<T>(test: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(test)
    }

    /// Two ends of one connection; behind the other one is an authority, at its place or where nobody looks for it.
    async fn pair(authority: Authority, path: &'static str) -> (Connection, Connection) {
        let (here, there) = UnixStream::pair().unwrap();
        let server = Builder::unix_stream(there)
            .server(zbus::Guid::generate())
            .p2p()
            .serve_at(path, authority);
        let client = Builder::unix_stream(here).p2p();
        let (client, server) = tokio::join!(client.build(), server.build());
        (client.unwrap(), server.unwrap())
    }

    #[test]
    fn polkit_is_asked_about_the_caller_and_its_word_counts() {
        for (allowed, interactive, expected) in
            [(true, false, "allowed"), (false, true, INTERACTION)]
        {
            let (asked, questions) = std::sync::mpsc::channel();
            let said = run(async {
                let authority = Authority { asked, allowed };
                let (bus, _there) = pair(authority, AUTHORITY_PATH).await;
                let sender = UniqueName::try_from(":1.7").unwrap();
                let details = [("unit", "x.service"), ("policy", "kernel")];
                ask_polkit(&bus, &sender, Deed::SetPolicy, &details, interactive).await
            });
            assert_eq!(name(verdict(Deed::SetPolicy, said)), expected);
            assert_eq!(
                questions.recv().unwrap(),
                format!(
                    "system-bus-name :1.7 org.bpfoomd1.set-policy {{\"policy\": \"kernel\", \"unit\": \"x.service\"}} {} \"\"",
                    u32::from(interactive)
                )
            );
        }
    }

    #[test]
    fn where_polkit_is_not_found_it_is_for_root_alone() {
        let said = run(async {
            let (asked, _) = std::sync::mpsc::channel();
            let authority = Authority {
                asked,
                allowed: true,
            };
            let (bus, _there) = pair(authority, "/elsewhere").await;
            let sender = UniqueName::try_from(":1.7").unwrap();
            ask_polkit(&bus, &sender, Deed::Reload, &[], false).await
        });
        assert!(said.is_err());
        assert_eq!(name(verdict(Deed::Reload, said)), DENIED);
    }

    #[test]
    fn every_deed_is_an_action_that_an_administrator_has_to_allow() {
        let file = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../units/usr/share/polkit-1/actions/org.bpfoomd1.policy"
        );
        let text = std::fs::read_to_string(file).unwrap();
        let deeds = [Deed::SetPolicy, Deed::Reload, Deed::SetLogLevel];
        for deed in deeds {
            let opening = format!("<action id=\"{}\">", deed.action());
            assert_eq!(text.matches(&opening).count(), 1, "{opening}");
        }
        assert_eq!(text.matches("<action id=").count(), deeds.len());
        for who in ["any", "inactive", "active"] {
            let default = format!("<allow_{who}>auth_admin_keep</allow_{who}>");
            assert_eq!(text.matches(&default).count(), deeds.len(), "{default}");
        }
    }
}
