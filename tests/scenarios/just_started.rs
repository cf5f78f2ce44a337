// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whoever asks about a unit that was started a moment ago is not told that there is none.

use bpf_oomd_tests::bus::{self, MANAGER, MANAGER_PATH, NAME, connect, run};
use bpf_oomd_tests::daemon;
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::systemctl::{PATIENCE, daemon_reload, signal, start};
use bpf_oomd_tests::units::{Units, hog_service, slice};
use futures_util::StreamExt;
use zbus::message::Type;
use zbus::{Message, MessageStream};

const SLICE: &str = "fresh.slice";
const SERVICE: &str = "fresh.service";

#[test]
fn a_unit_is_known_to_whoever_asks_as_soon_as_it_runs() {
    let _machine = TestMachine::enter();
    daemon::started();
    let mut units = Units::new();
    units.write(SLICE, &slice(&["ManagedOOMPolicy=bpf:biggest-leaf"]));
    units.write(
        SERVICE,
        &hog_service(SLICE, &[], "anon=4M notify=READY=1 pause"),
    );
    daemon_reload();
    let cgroup = format!("/{SLICE}/{SERVICE}/deeper");
    let questions = [
        ("GetUnit", SERVICE),
        ("GetUnitByControlGroup", &*cgroup),
        ("Explain", SERVICE),
        ("Simulate", SLICE),
    ];
    run(async {
        let bus = connect().await;
        let mut messages = MessageStream::from(&bus);
        // The questions are there when it goes on, and so are the signals of which it would have to learn what it is asked about.
        signal(daemon::UNIT, "STOP");
        start(&[SERVICE]);
        let mut asked = Vec::new();
        for (method, argument) in questions {
            let message = Message::method_call(MANAGER_PATH, method)
                .destination(NAME)
                .interface(MANAGER)
                .build(&(argument,))
                .expect("a call");
            asked.push((message.primary_header().serial_num(), method));
            bus.send(&message).await.expect("it is sent");
        }
        signal(daemon::UNIT, "CONT");
        while !asked.is_empty() {
            let next = tokio::time::timeout(PATIENCE, messages.next()).await;
            let message = next
                .expect("answers in time")
                .expect("the bus is there")
                .expect("a message");
            let header = message.header();
            let serial = header.reply_serial();
            let Some(at) = asked.iter().position(|(number, _)| Some(*number) == serial) else {
                continue;
            };
            let (_, method) = asked.remove(at);
            assert_eq!(
                message.message_type(),
                Type::MethodReturn,
                "{method}: {message:?}"
            );
            let object = "/org/bpfoomd1/unit/fresh_2eservice";
            match method {
                "GetUnit" | "GetUnitByControlGroup" => {
                    let path: zbus::OwnedObjectPath = message.body().deserialize().expect("a path");
                    assert_eq!(path.as_str(), object, "{method}");
                }
                "Simulate" => {
                    let (policy, candidates): (String, Vec<bus::Candidate>) =
                        message.body().deserialize().expect("candidates");
                    assert_eq!((&*policy, &*candidates[0].0), ("bpf:biggest-leaf", SERVICE));
                }
                _ => {}
            }
        }
    });
}
