// SPDX-License-Identifier: MIT OR Apache-2.0
//! What 500 units cost on the bus: memory, messages, and bytes in them. Nothing here is measured by a clock.

use super::*;

const UNITS: usize = 500;

/// Memory for a unit: its object, and what it shows. 1700 are measured.
const BYTES_OF_AN_OBJECT: i64 = 3 * 1024;

/// A unit among all objects, on the wire. 540 are measured.
const BYTES_OF_A_UNIT: usize = 800;

/// That one property has changed, on the wire. 230 are measured.
const BYTES_OF_A_CHANGE: usize = 350;

fn many(change: impl Fn(usize, &mut UnitShown)) -> Shown {
    let named: Vec<(String, UnitShown)> = (0..UNITS)
        .map(|number| {
            let name = format!("some-application@{number}.service");
            let mut shown = unit(&format!("/system.slice/{name}"), false);
            change(number, &mut shown);
            (name, shown)
        })
        .collect();
    let units: Vec<_> = named
        .iter()
        .map(|(name, it)| (&**name, it.clone()))
        .collect();
    let mut shown = shown(&units);
    shown.revision = 2;
    shown
}

/// The signals up to one that comes last: that the configuration is another one.
async fn signals(messages: &mut MessageStream) -> Vec<Message> {
    let mut told = Vec::new();
    loop {
        let message = timeout(Duration::from_secs(60), messages.next()).await;
        let message = message.unwrap().unwrap().unwrap();
        if message.message_type() != Type::Signal {
            continue;
        }
        let is_last = {
            let header = message.header();
            header.member().is_some_and(|it| *it == "Killed")
        };
        if is_last {
            return told;
        }
        told.push(message);
    }
}

fn members(told: &[Message]) -> Vec<String> {
    let names = told.iter().map(|message| {
        let header = message.header();
        header.member().map(ToString::to_string).unwrap_or_default()
    });
    names.collect()
}

impl Scene {
    /// Shows something, and then a kill, by which the end is seen.
    async fn show(&self, mut now: Shown, messages: &mut MessageStream) -> Vec<Message> {
        self.core.shown.send_replace(now.clone());
        // Objects are made when that has been told.
        let method = (MANAGER, "ListKills");
        loop {
            let introspect = ("org.freedesktop.DBus.Introspectable", "Introspect");
            if self.call(path::UNITS, introspect, &()).await.is_ok() {
                break;
            }
        }
        now.last_kill = self.core.kill();
        self.core.shown.send_replace(now);
        let told = signals(messages).await;
        self.call(MANAGER_PATH, method, &(0_u64, 1_u32))
            .await
            .unwrap();
        told
    }
}

#[test]
fn five_hundred_units_cost_little_memory_and_few_messages() {
    run(async {
        let scene = Scene::new(shown(&[])).await;
        let mut messages = MessageStream::from(&scene.bus);
        messages.set_max_queued(std::num::NonZeroUsize::new(2 * UNITS).unwrap());
        // What is allocated once.
        scene
            .show(
                shown(&[("first.service", unit("/x", false))]),
                &mut messages,
            )
            .await;
        let before = allocated::bytes();
        let told = scene.show(many(|_, _| ()), &mut messages).await;
        let mut members_told = members(&told);
        members_told.sort();
        members_told.dedup();
        assert_eq!(told.len(), UNITS + 1, "{members_told:?}");
        drop(told);
        let objects = allocated::bytes() - before;
        let each = objects / UNITS as i64;
        println!("{each} bytes for a unit");
        assert!(each < BYTES_OF_AN_OBJECT, "{each} bytes for a unit");

        let method = ("org.freedesktop.DBus.ObjectManager", "GetManagedObjects");
        let reply = scene.call(MANAGER_PATH, method, &()).await.unwrap();
        let each = reply.data().len() / UNITS;
        println!("{each} bytes for a unit on the wire");
        assert!(
            each < BYTES_OF_A_UNIT,
            "{each} bytes for a unit on the wire"
        );
        drop(reply);

        // Of one that changes one is told, and of those that do not, nothing.
        let told = scene
            .show(
                many(|number, unit| unit.kills += u64::from(number == 7)),
                &mut messages,
            )
            .await;
        assert_eq!(members(&told), ["PropertiesChanged"]);
        let bytes = told[0].data().len();
        println!("{bytes} bytes for a change");
        assert!(bytes < BYTES_OF_A_CHANGE, "{bytes} bytes for a change");
        let told = scene
            .show(
                many(|number, unit| unit.kills += u64::from(number == 7)),
                &mut messages,
            )
            .await;
        assert_eq!(members(&told), [] as [&str; 0]);
        drop(told);

        // And nothing stays of those that are gone.
        let told = scene
            .show(
                shown(&[("first.service", unit("/x", false))]),
                &mut messages,
            )
            .await;
        assert_eq!(told.len(), UNITS + 1);
        drop(told);
        let left = allocated::bytes() - before;
        println!("{left} bytes are left");
        assert!(left < objects / 10, "{left} of {objects} bytes are left");
    });
}
