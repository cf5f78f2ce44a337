// SPDX-License-Identifier: MIT OR Apache-2.0
//! Programs that must not load, and the verifier's reason, so that a refusal for another reason does not pass.
//!
//! That programs which do the same things properly do load is shown by all other tests.

use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::program::refused;

use bpf_oomd_tests::programs;

#[track_caller]
fn is_refused(object: &[u8], reason: &str) {
    let _machine = TestMachine::enter();
    let log = refused(object);
    assert!(log.contains(reason), "no {reason:?} in:\n{log}");
}

#[test]
fn a_program_cannot_write_bpf_memory_freed() {
    is_refused(
        programs::REFUSED_WRITES_MEMORY_FREED,
        "only read is supported",
    );
}

#[test]
fn a_program_must_check_the_memcg_for_null_before_passing_it_on() {
    is_refused(
        programs::REFUSED_PASSES_NULL_MEMCG,
        "Possibly NULL pointer passed to trusted arg0",
    );
}

#[test]
fn a_program_must_check_the_memcg_for_null_before_following_it() {
    is_refused(
        programs::REFUSED_FOLLOWS_NULL_MEMCG,
        "invalid mem access 'trusted_ptr_or_null_'",
    );
}

#[test]
fn a_handler_that_must_not_sleep_cannot_kill() {
    is_refused(
        programs::REFUSED_KILLS_WITHOUT_SLEEPING,
        "program must be sleepable to call sleepable kfunc bpf_oom_kill_process",
    );
}

#[test]
fn handle_cgroup_offline_cannot_sleep() {
    is_refused(
        programs::REFUSED_SLEEPS_IN_OFFLINE,
        "attach to unsupported member handle_cgroup_offline",
    );
}

#[test]
fn bpf_oom_kill_process_is_refused_outside_struct_ops() {
    is_refused(
        programs::REFUSED_KILLS_FROM_SYSCALL,
        "calling kernel function bpf_oom_kill_process is not allowed",
    );
}

#[test]
fn bpf_task_is_oom_victim_is_refused_outside_struct_ops() {
    is_refused(
        programs::REFUSED_ASKS_VICTIM_FROM_SYSCALL,
        "calling kernel function bpf_task_is_oom_victim is not allowed",
    );
}

#[test]
fn the_root_memcg_must_be_put() {
    is_refused(programs::REFUSED_LEAKS_MEMCG, "Unreleased reference");
}

#[test]
fn a_memcg_from_a_css_must_be_put() {
    is_refused(programs::REFUSED_LEAKS_MEMCG_OF_CSS, "Unreleased reference");
}

#[test]
fn a_memcg_that_was_put_cannot_be_used() {
    is_refused(
        programs::REFUSED_USES_PUT_MEMCG,
        "arg#0 pointer type STRUCT mem_cgroup must point to scalar",
    );
}

#[test]
fn bpf_out_of_memory_is_refused_in_an_oom_handler() {
    is_refused(
        programs::REFUSED_DECLARES_FROM_OOM,
        "calling kernel function bpf_out_of_memory is not allowed",
    );
}

#[test]
fn bpf_out_of_memory_is_refused_outside_struct_ops() {
    is_refused(
        programs::REFUSED_DECLARES_FROM_SYSCALL,
        "calling kernel function bpf_out_of_memory is not allowed",
    );
}

#[test]
fn bpf_out_of_memory_is_refused_where_the_program_must_not_sleep() {
    is_refused(
        programs::REFUSED_DECLARES_WITHOUT_SLEEPING,
        "program must be sleepable to call sleepable kfunc bpf_out_of_memory",
    );
}

#[test]
fn bpf_psi_create_trigger_is_refused_in_an_oom_handler() {
    is_refused(
        programs::REFUSED_CREATES_TRIGGER_FROM_OOM,
        "calling kernel function bpf_psi_create_trigger is not allowed",
    );
}
