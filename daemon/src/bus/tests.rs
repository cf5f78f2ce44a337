// SPDX-License-Identifier: MIT OR Apache-2.0
//! The objects on a connection without a bus.

mod allocated;
mod cost;

pub(crate) use super::record::tests::everything;
use super::unit::UNIT;
use super::*;
use crate::core::{Counters, NumberedKill, PolicyShown, UnitShown};
use crate::policy::{Kill, Policy, Preference};
use futures_util::StreamExt;
use std::collections::HashMap;
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use zbus::message::Type;
use zbus::{Message, MessageStream, OwnedObjectPath, OwnedVariant};

/// What a core would hold: the other ends of all links.
struct Core {
    shown: watch::Sender<Shown>,
    history: Arc<History>,
    requests: Option<mpsc::Receiver<Request>>,
    questions: Option<mpsc::Receiver<Question>>,
}

impl Core {
    /// Keeps one more kill, and returns its number.
    fn kill(&self) -> u64 {
        let last = self.history.after(0).last().map_or(0, |kill| kill.id);
        let record = record::tests::everything();
        let kill = NumberedKill {
            id: last + 1,
            record,
        };
        self.history.push(Arc::new(kill));
        last + 1
    }

    /// From now on, systemd says that there is `late`, and nothing else that is not shown.
    fn learn(&mut self, late: &'static str) {
        let mut questions = self.questions.take().unwrap();
        let mut requests = self.requests.take().unwrap();
        let shown = self.shown.clone();
        tokio::spawn(async move {
            while let Some(question) = questions.recv().await {
                if question.unit == late {
                    shown.send_modify(|shown| {
                        let path = format!("/{late}");
                        Arc::make_mut(&mut shown.units)
                            .insert(late.to_owned(), Arc::new(unit(&path, false)));
                        shown.revision += 1;
                    });
                }
                question.known.send(()).unwrap();
            }
        });
        tokio::spawn(async move {
            while let Some(request) = requests.recv().await {
                match request {
                    Request::Settle { answer } => answer.send(()).unwrap(),
                    request => panic!("{request:?}"),
                }
            }
        });
    }
}

fn links() -> (Links, Core) {
    let (requests, asked) = mpsc::channel(1);
    let (questions, to_answer) = mpsc::channel(1);
    let (shown, seen) = watch::channel(Shown::default());
    let history = Arc::new(History::default());
    let links = Links {
        requests,
        questions,
        shown: seen,
        history: Arc::clone(&history),
        told: Arc::default(),
        engine: "kernel",
        interface: Vec::new(),
    };
    let core = Core {
        shown,
        history,
        requests: Some(asked),
        questions: Some(to_answer),
    };
    (links, core)
}

/// What objects need, with nobody behind it.
pub(super) fn calls() -> Calls {
    let (_, served) = watch::channel(0);
    Calls::new(links().0, served)
}

fn policy() -> Policy {
    Policy::Bpf("p".into())
}

fn unit(path: &str, attached: bool) -> UnitShown {
    UnitShown {
        control_group: Some(path.to_owned()),
        control_group_id: 7,
        policy: policy(),
        policy_place: "/etc/x:1:2".into(),
        attached: attached.then(policy),
        enabled: true,
        kill: Kill::Process,
        preference: Preference::Avoid,
        cooldown: Duration::from_secs(10),
        pressure: None,
        watched: false,
        kills: 3,
    }
}

fn shown(units: &[(&str, UnitShown)]) -> Shown {
    let units = units.iter().cloned();
    let units = units.map(|(name, unit)| (name.to_owned(), Arc::new(unit)));
    Shown {
        units: Arc::new(units.collect()),
        policies: Arc::new(vec![PolicyShown {
            policy: policy(),
            parameters: Vec::new(),
            attachments: 1,
        }]),
        revision: 1,
        counters: Counters {
            kills: 5,
            ..Counters::default()
        },
        ..Shown::default()
    }
}

/// A client, and the core that it knows of by the daemon's objects.
struct Scene {
    bus: Connection,
    core: Core,
    _server: Connection,
}

impl Scene {
    async fn new(first: Shown) -> Self {
        let (links, core) = links();
        Self::on(links, core, first).await
    }

    async fn on(links: Links, core: Core, first: Shown) -> Self {
        core.shown.send_replace(first);
        let (here, there) = UnixStream::pair().unwrap();
        let (served, those_served) = watch::channel(0);
        let calls = Calls::new(links, those_served);
        let server = zbus::connection::Builder::unix_stream(there)
            .server(zbus::Guid::generate())
            .p2p()
            .serve_at(MANAGER_PATH, Manager::new(calls.clone()));
        let client = zbus::connection::Builder::unix_stream(here).p2p();
        let (client, server) = tokio::join!(client.build(), server.build());
        let (bus, server) = (client.unwrap(), server.unwrap());
        let announcer = serve_objects(&server, calls, served).await.unwrap();
        tokio::spawn(announcer.announce());
        Scene {
            bus,
            core,
            _server: server,
        }
    }

    async fn call<B>(&self, path: &str, method: (&str, &str), body: &B) -> zbus::Result<Message>
    where
        B: serde::Serialize + zbus::wire::DynamicType,
    {
        let (interface, method) = method;
        let reply = self
            .bus
            .call_method(None::<&str>, path, Some(interface), method, body);
        timeout(Duration::from_secs(20), reply).await.unwrap()
    }

    async fn all(&self, path: &str, interface: &str) -> HashMap<String, OwnedVariant> {
        let reply = self.call(path, (PROPERTIES, "GetAll"), &(interface,)).await;
        reply.unwrap().body().deserialize().unwrap()
    }

    async fn introspect(&self, path: &str) -> String {
        let method = ("org.freedesktop.DBus.Introspectable", "Introspect");
        let reply = self.call(path, method, &()).await.unwrap();
        reply.body().deserialize().unwrap()
    }

    fn error(result: zbus::Result<Message>) -> String {
        match result.unwrap_err() {
            zbus::Error::MethodError(name, ..) => name.to_string(),
            error => zbus::DBusError::name(&zbus::fdo::Error::from(error)).to_string(),
        }
    }
}

const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let limit = Duration::from_secs(120);
    let ended = runtime.block_on(async { timeout(limit, test).await });
    ended.expect("the test ends");
}

type Managed = HashMap<OwnedObjectPath, HashMap<String, HashMap<String, OwnedVariant>>>;

#[test]
fn all_objects_at_once_are_what_each_says_of_itself() {
    run(async {
        let units = [
            ("-.slice", unit("/", true)),
            ("x.service", unit("/x.service", false)),
        ];
        let scene = Scene::new(shown(&units)).await;
        let method = ("org.freedesktop.DBus.ObjectManager", "GetManagedObjects");
        let reply = scene.call(MANAGER_PATH, method, &()).await.unwrap();
        let all: Managed = reply.body().deserialize().unwrap();
        assert_eq!(all.len(), 3);
        for (path, interfaces) in all {
            for (interface, properties) in interfaces {
                assert_eq!(scene.all(path.as_str(), &interface).await, properties);
                assert!(properties.len() >= 4, "{properties:?}");
            }
        }
    });
}

#[test]
fn what_changes_is_told_and_nothing_else() {
    run(async {
        let scene = Scene::new(shown(&[
            ("a.service", unit("/a.service", false)),
            ("b.service", unit("/b.service", true)),
            ("c.service", unit("/c.service", false)),
        ]))
        .await;
        let mut messages = MessageStream::from(&scene.bus);
        scene.core.shown.send_replace(shown(&[
            ("a.service", unit("/a.service", true)),
            ("c.service", unit("/c.service", false)),
            ("d.service", unit("/d.service", true)),
        ]));
        let mut told = Vec::new();
        while told.len() < 6 {
            let message = timeout(Duration::from_secs(20), messages.next()).await;
            let message = message.unwrap().unwrap().unwrap();
            if message.message_type() != Type::Signal {
                continue;
            }
            let header = message.header();
            let member = header.member().unwrap().to_string();
            let body = message.body();
            told.push(match &*member {
                "Attached" | "Detached" => {
                    let (unit, policy): (String, String) = body.deserialize().unwrap();
                    format!("{member} {unit} {policy}")
                }
                "PropertiesChanged" => {
                    type Changed = (String, HashMap<String, OwnedVariant>, Vec<String>);
                    let (interface, changed, invalidated): Changed = body.deserialize().unwrap();
                    assert_eq!((&*interface, invalidated.len()), (UNIT, 0));
                    let names: Vec<&String> = changed.keys().collect();
                    format!("{member} {} {names:?}", header.path().unwrap())
                }
                "InterfacesAdded" => {
                    type Added = (
                        OwnedObjectPath,
                        HashMap<String, HashMap<String, OwnedVariant>>,
                    );
                    let (path, interfaces): Added = body.deserialize().unwrap();
                    assert_eq!(scene.all(path.as_str(), UNIT).await, interfaces[UNIT]);
                    format!("{member} {path}")
                }
                _ => {
                    let (path, interfaces): (OwnedObjectPath, Vec<String>) =
                        body.deserialize().unwrap();
                    assert_eq!(interfaces, [UNIT]);
                    let gone = scene.call(path.as_str(), (UNIT, "Explain"), &()).await;
                    assert!(Scene::error(gone).ends_with(".UnknownObject"));
                    format!("{member} {path}")
                }
            });
        }
        assert_eq!(
            told,
            [
                "InterfacesRemoved /org/bpfoomd1/unit/b_2eservice",
                "Detached b.service bpf:p",
                "PropertiesChanged /org/bpfoomd1/unit/a_2eservice [\"Attached\"]",
                "Attached a.service bpf:p",
                "InterfacesAdded /org/bpfoomd1/unit/d_2eservice",
                "Attached d.service bpf:p",
            ]
        );
    });
}

#[test]
fn objects_say_what_is_directly_below_them_and_the_manager_says_what_it_is() {
    run(async {
        let many: Vec<String> = (0..300).map(|n| format!("many{n}.service")).collect();
        let many: Vec<_> = many
            .iter()
            .map(|name| (&**name, unit("/x", false)))
            .collect();
        let scene = Scene::new(shown(&many)).await;
        for (path, child) in [
            ("/", "org"),
            ("/org", "bpfoomd1"),
            (MANAGER_PATH, "unit"),
            (path::UNITS, "many299_2eservice"),
        ] {
            let xml = scene.introspect(path).await;
            assert!(
                xml.contains(&format!("  <node name=\"{child}\"/>\n")),
                "{xml}"
            );
            assert!(xml.len() < 32 * 1024, "{path}: {}", xml.len());
        }
        let xml = scene.introspect(MANAGER_PATH).await;
        for interface in [
            MANAGER,
            "org.freedesktop.DBus.ObjectManager",
            "org.freedesktop.DBus.Introspectable",
            "org.freedesktop.DBus.Peer",
            PROPERTIES,
        ] {
            let opening = format!("<interface name=\"{interface}\">");
            assert_eq!(xml.matches(&opening).count(), 1, "{interface}: {xml}");
        }
        let xml = scene.introspect("/org/bpfoomd1/unit/many7_2eservice").await;
        assert!(
            xml.contains("<property name=\"CooldownUSec\" type=\"t\""),
            "{xml}"
        );
        // When the last unit is gone and others come it is the same again.
        scene.core.shown.send_replace(shown(&[]));
        let introspect = ("org.freedesktop.DBus.Introspectable", "Introspect");
        while scene.call(path::UNITS, introspect, &()).await.is_ok() {}
        scene.core.shown.send_replace(shown(&many));
        while scene.call(path::UNITS, introspect, &()).await.is_err() {}
        // It is put in place when all of them are there.
        while scene.introspect(path::UNITS).await.len() > 32 * 1024 {}
    });
}

#[test]
fn the_unit_of_a_cgroup_is_found_by_what_is_above_it() {
    run(async {
        let mut scene = Scene::new(shown(&[
            ("-.slice", unit("/", false)),
            ("a.slice", unit("/a.slice", false)),
            ("memory.service", unit("/a.slice/_memory.service", false)),
        ]))
        .await;
        scene.core.learn("late.service");
        let method = (MANAGER, "GetUnitByControlGroup");
        for (cgroup, expected) in [
            ("/a.slice/_memory.service/sub/sub", "memory_2eservice"),
            ("/a.slice/other", "a_2eslice"),
            ("/a.slice/", "a_2eslice"),
            // Somewhere else by the same name.
            ("/b.slice/a.slice", "_2d_2eslice"),
            ("/", "_2d_2eslice"),
            // Started a moment ago.
            ("/late.service/sub", "late_2eservice"),
        ] {
            let reply = scene.call(MANAGER_PATH, method, &(cgroup,)).await.unwrap();
            let path: OwnedObjectPath = reply.body().deserialize().unwrap();
            assert_eq!(path.as_str(), format!("{}/{expected}", path::UNITS));
        }
        for wrong in ["", "a.slice", "/a.slice/../x"] {
            let reply = scene.call(MANAGER_PATH, method, &(wrong,)).await;
            assert!(Scene::error(reply).ends_with(".InvalidArgs"), "{wrong}");
        }
        let reply = scene
            .call(MANAGER_PATH, (MANAGER, "GetUnit"), &("b.slice",))
            .await;
        assert!(Scene::error(reply).ends_with(".NoSuchUnit"));
    });
}

#[test]
fn the_log_level_is_read_by_everybody_and_not_set_by_somebody_unknown() {
    run(async {
        let scene = Scene::new(shown(&[])).await;
        let interface = "org.freedesktop.LogControl1";
        let all = scene.all(log_control::PATH, interface).await;
        assert_eq!(
            all["LogLevel"],
            zbus::Variant::from("info").try_into_owned().unwrap()
        );
        let set = async |name: &str, value: &str| {
            let value = zbus::Variant::from(value);
            let body = (interface, name, value);
            Scene::error(
                scene
                    .call(log_control::PATH, (PROPERTIES, "Set"), &body)
                    .await,
            )
        };
        assert!(set("LogLevel", "debug").await.ends_with(".AccessDenied"));
        assert!(set("LogLevel", "debugg").await.ends_with(".InvalidArgs"));
        assert!(
            set("LogTarget", "null")
                .await
                .ends_with(".PropertyReadOnly")
        );
        assert!(set("LogLvl", "debug").await.ends_with(".UnknownProperty"));
    });
}

#[test]
fn every_kill_is_told_once_and_in_order_and_is_kept() {
    type Dictionary = HashMap<String, OwnedVariant>;
    run(async {
        let scene = Scene::new(shown(&[])).await;
        let mut messages = MessageStream::from(&scene.bus);
        // Two at once, and one more.
        for kills in [2, 1] {
            for _ in 0..kills {
                let id = scene.core.kill();
                scene.core.shown.send_modify(|shown| shown.last_kill = id);
            }
            tokio::task::yield_now().await;
        }
        let mut told: Vec<Dictionary> = Vec::new();
        while told.len() < 3 {
            let message = messages.next().await.unwrap().unwrap();
            let header = message.header();
            if header.member().is_some_and(|member| *member == "Killed") {
                told.push(message.body().deserialize().unwrap());
            }
        }
        let reply = scene.call(MANAGER_PATH, (MANAGER, "ListKills"), &(0_u64, 0_u32));
        let kept: Vec<Dictionary> = reply.await.unwrap().body().deserialize().unwrap();
        assert_eq!(kept, told);
        let ids = kept.iter().map(|kill| u64::try_from(kill["id"].clone()));
        assert_eq!(ids.map(Result::unwrap).collect::<Vec<_>>(), [1, 2, 3]);
        let reply = scene.call(MANAGER_PATH, (MANAGER, "ListKills"), &(0_u64, 1_u32));
        let last: Vec<Dictionary> = reply.await.unwrap().body().deserialize().unwrap();
        assert_eq!(last, kept[2..]);
    });
}

#[test]
fn of_kills_before_the_connection_those_are_told_that_were_not_told_before() {
    run(async {
        let (links, core) = links();
        for _ in 0..3 {
            core.kill();
        }
        links.told.store(2, Ordering::Relaxed);
        let scene = Scene::on(links, core, Shown::default()).await;
        let mut messages = MessageStream::from(&scene.bus);
        scene.core.shown.send_modify(|shown| shown.last_kill = 3);
        let told = loop {
            let message = messages.next().await.unwrap().unwrap();
            let header = message.header();
            if header.member().is_some_and(|member| *member == "Killed") {
                break message;
            }
        };
        let kill: HashMap<String, OwnedVariant> = told.body().deserialize().unwrap();
        assert_eq!(u64::try_from(kill["id"].clone()).unwrap(), 3);
    });
}

/// The core goes on in its own thread while properties are read one by one.
#[test]
fn all_properties_of_an_object_are_of_one_moment() {
    const READINGS: usize = 300;
    fn at(moment: u64) -> Shown {
        let mut x = unit(&format!("/{moment}"), false);
        x.control_group_id = moment;
        x.kills = moment;
        shown(&[("x.service", x)])
    }
    run(async {
        let scene = Scene::new(at(1)).await;
        let core = scene.core.shown.clone();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let goes_on = thread::spawn(move || {
            let mut moment = 1;
            while ended.try_recv() != Err(std::sync::mpsc::TryRecvError::Disconnected) {
                moment += 1;
                core.send_replace(at(moment));
            }
            moment
        });
        let mut last = 0;
        for _ in 0..READINGS {
            let all = scene.all("/org/bpfoomd1/unit/x_2eservice", UNIT).await;
            let number = |name: &str| u64::try_from(all[name].clone()).unwrap();
            let moment = number("Kills");
            assert_eq!(number("ControlGroupId"), moment);
            let path = String::try_from(all["ControlGroup"].clone()).unwrap();
            assert_eq!(path, format!("/{moment}"));
            assert!(moment >= last, "{moment} after {last}");
            last = moment;
        }
        drop(end);
        assert!(goes_on.join().unwrap() > 10);
    });
}
