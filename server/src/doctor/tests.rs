//! Findings about the facts of several machines.

use super::capacity::Capacity;
use super::facts::{Conntrack, Facts, Fsync, IoUring, Limit, Sysctls};
use super::findings::{Finding, Status, findings};
use super::tell;
use crate::system::{Memory, Root};

const GIB: u64 = 1 << 30;

/// A machine that was made for it.
fn large() -> Facts {
    Facts {
        kernel: Some("6.12.1".into()),
        container: false,
        cores: 8,
        memory: Some(Memory { total_bytes: 64 * GIB, available_bytes: 60 * GIB }),
        descriptors: Limit { soft: Some(1024), hard: Some(4_194_304) },
        memlock: Limit { soft: None, hard: None },
        ipc_lock: false,
        io_uring: IoUring::Works,
        sysctls: Sysctls {
            file_max: Some(8_388_608),
            files_open: Some(2000),
            nr_open: Some(4_194_304),
            somaxconn: Some(16_384),
            syn_backlog: Some(16_384),
            device_backlog: Some(16_384),
            tcp_mem: Some([500_000, 750_000, 2_000_000]),
            tcp_rmem: Some([4096, 131_072, 6_291_456]),
            tcp_wmem: Some([4096, 16_384, 4_194_304]),
            port_range: Some([32_768, 60_999]),
            overcommit: Some(0),
            io_uring_disabled: Some(0),
        },
        conntrack: None,
        huge_pages: Some("madvise".into()),
        clock: Some("tsc".into()),
        fsync: Fsync::Micros { median: 900, slowest: 4000, dir: "/srv/roost".into() },
    }
}

fn find<'a>(findings: &'a [Finding], name: &str) -> &'a Finding {
    findings.iter().find(|finding| finding.name == name).unwrap_or_else(|| panic!("nothing about {name}"))
}

/// What is not well.
fn amiss(facts: &Facts, sessions: u64) -> Vec<(&'static str, Status)> {
    let wrong = findings(facts, sessions).into_iter().filter(|finding| finding.status != Status::Ok);
    wrong.map(|finding| (finding.name, finding.status)).collect()
}

#[test]
fn a_machine_made_for_it_holds_a_million_and_nothing_is_amiss() {
    let facts = large();
    assert_eq!(amiss(&facts, 1_000_000), []);
    let capacity = Capacity::of(&facts);
    // 60 GiB less 5 % of 64 GiB and the node, by 4 400 bytes.
    assert_eq!(capacity.memory, Some((60 * GIB - 64 * GIB / 100 * 5 - (128 << 20)) / 4400));
    assert_eq!(capacity.poll(), Some(4_194_304 - 2048));
    assert_eq!(capacity.uring(), Some(8_386_608));
}

#[test]
fn a_container_without_io_uring_needs_descriptors_for_each_session() {
    let forbidden = IoUring::Forbidden("io_uring is forbidden here".into());
    let limit = Limit { soft: Some(20_000), hard: Some(20_000) };
    let facts = Facts { container: true, io_uring: forbidden, descriptors: limit, ..large() };
    assert_eq!(amiss(&facts, 100_000), [("descriptors", Status::Bad), ("io_uring", Status::Warn)]);
    assert_eq!(amiss(&facts, 18_000), [("io_uring", Status::Warn)]);
    let capacity = Capacity::of(&facts);
    assert_eq!((capacity.poll(), capacity.uring()), (Some(18_000), Some(0)));
    let found = findings(&facts, 100_000);
    let lines: Vec<&str> = find(&found, "descriptors").fixes.iter().map(|fix| fix.line.as_str()).collect();
    assert_eq!(lines, ["ulimit -n 131072", "LimitNOFILE=131072", "docker run --ulimit nofile=131072:131072 …"]);
    assert!(find(&found, "io_uring").fixes[0].line.contains("seccomp"));
    let disabled = Sysctls { io_uring_disabled: Some(2), ..facts.sysctls };
    let found = findings(&Facts { sysctls: disabled, ..facts }, 100_000);
    assert_eq!(find(&found, "io_uring").fixes[0].line, "sysctl -w kernel.io_uring_disabled=0");
}

#[test]
fn few_descriptors_are_no_limit_for_rings() {
    let limit = Limit { soft: Some(1024), hard: Some(1024) };
    let facts = Facts { descriptors: limit, ..large() };
    // 704 rings of 1024.
    assert_eq!(Capacity::of(&facts).rings, Some(704 * 1024));
    assert_eq!(amiss(&facts, 100_000), []);
    let found = findings(&facts, 100_000);
    assert!(find(&found, "descriptors").found.contains("704 fit with poll"), "{:?}", find(&found, "descriptors"));
    assert_eq!(amiss(&facts, 1_000_000), [("descriptors", Status::Bad)]);
    // Without CAP_IPC_LOCK rings count as locked memory: 8 MiB are 95 of them.
    let locked = Limit { soft: Some(8 << 20), hard: Some(8 << 20) };
    let facts = Facts { memlock: locked, ..facts };
    assert_eq!(Capacity::of(&facts).rings, Some(95 * 1024));
    assert_eq!(amiss(&facts, 100_000), [("descriptors", Status::Bad), ("locked memory", Status::Bad)]);
    assert_eq!(Capacity::of(&Facts { ipc_lock: true, ..facts }).rings, Some(704 * 1024));
}

#[test]
fn small_memory_is_told_with_what_fits() {
    let memory = Memory { total_bytes: GIB, available_bytes: GIB / 2 };
    let facts = Facts { memory: Some(memory), container: true, ..large() };
    let capacity = Capacity::of(&facts);
    // 512 MiB less 64 MiB of reserve and 128 MiB of the node.
    assert_eq!(capacity.memory, Some((320 << 20) / 4400));
    assert_eq!(amiss(&facts, 1_000_000), [("memory", Status::Bad)]);
    let found = findings(&facts, 1_000_000);
    assert!(find(&found, "memory").why.contains("76 260 fit"), "{}", find(&found, "memory").why);
    assert!(find(&found, "memory").fixes[0].line.starts_with("docker run --memory 5246m"));
    assert_eq!(amiss(&facts, 76_260), []);
}

#[test]
fn each_sysctl_that_is_too_low_is_told_with_the_line_that_raises_it() {
    let low = Sysctls {
        file_max: Some(100_000),
        nr_open: Some(1_048_576),
        somaxconn: Some(128),
        syn_backlog: Some(512),
        device_backlog: Some(1000),
        tcp_mem: Some([100, 200, 300]),
        tcp_rmem: Some([4096, 131_072, 33_554_432]),
        overcommit: Some(2),
        ..large().sysctls
    };
    let facts = Facts { sysctls: low, ..large() };
    let found = findings(&facts, 1_000_000);
    for (name, status, line) in [
        ("fs.file-max", Status::Bad, "sysctl -w fs.file-max=4194304"),
        ("fs.nr_open", Status::Warn, "sysctl -w fs.nr_open=4194304"),
        ("net.core.somaxconn", Status::Warn, "sysctl -w net.core.somaxconn=16384"),
        ("net.ipv4.tcp_max_syn_backlog", Status::Warn, "sysctl -w net.ipv4.tcp_max_syn_backlog=16384"),
        ("net.core.netdev_max_backlog", Status::Warn, "sysctl -w net.core.netdev_max_backlog=16384"),
        ("net.ipv4.tcp_mem", Status::Warn, "sysctl -w net.ipv4.tcp_mem=\"500000 750000 1000000\""),
        ("net.ipv4.tcp_rmem", Status::Warn, "sysctl -w net.ipv4.tcp_rmem=\"4096 16384 1048576\""),
        ("vm.overcommit_memory", Status::Warn, "sysctl -w vm.overcommit_memory=0"),
    ] {
        let finding = find(&found, name);
        let lines: Vec<&str> = finding.fixes.iter().map(|fix| fix.line.as_str()).collect();
        assert_eq!((finding.status, lines), (status, vec![line]), "{name}");
    }
    let amiss = found.iter().filter(|finding| finding.status != Status::Ok).count();
    assert_eq!(amiss, 8, "and nothing else");
}

#[test]
fn the_rest_is_judged_too() {
    let table = |max, count| Some(Conntrack { max, count });
    for (name, facts, sessions, status) in [
        ("conntrack", Facts { conntrack: table(262_144, 100), ..large() }, 100_000, Status::Ok),
        ("conntrack", Facts { conntrack: table(262_144, 100), ..large() }, 300_000, Status::Bad),
        ("conntrack", Facts { conntrack: table(262_144, 0), ..large() }, 300_000, Status::Warn),
        ("connections_max", large(), 1_000_000, Status::Ok),
        ("connections_max", large(), 1_000_001, Status::Warn),
        ("kernel", Facts { kernel: Some("5.15.0-1".into()), ..large() }, 1, Status::Warn),
        ("kernel", Facts { kernel: Some("6.0-rc1".into()), ..large() }, 1, Status::Warn),
        ("huge pages", Facts { huge_pages: Some("always".into()), ..large() }, 1, Status::Warn),
        ("clock", Facts { clock: Some("hpet".into()), ..large() }, 1, Status::Warn),
        ("fsync", Facts { fsync: Fsync::Failed("/srv: read-only".into()), ..large() }, 1, Status::Bad),
        (
            "fsync",
            Facts { fsync: Fsync::Micros { median: 90_000, slowest: 1, dir: "/".into() }, ..large() },
            1,
            Status::Ok,
        ),
    ] {
        assert_eq!(find(&findings(&facts, sessions), name).status, status, "{name} {facts:?}");
    }
}

#[test]
fn what_is_not_told_is_not_held_against_the_machine() {
    let facts = Facts {
        kernel: None,
        memory: None,
        sysctls: Sysctls::default(),
        huge_pages: None,
        clock: None,
        descriptors: Limit { soft: None, hard: None },
        ..large()
    };
    assert_eq!(amiss(&facts, 1_000_000), []);
    assert_eq!(Capacity::of(&facts).poll(), None);
}

#[test]
fn the_text_says_what_fits_and_how_to_mend() {
    let limit = Limit { soft: Some(20_000), hard: Some(20_000) };
    let facts = Facts { descriptors: limit, io_uring: IoUring::Unfit("no io_uring".into()), ..large() };
    let found = findings(&facts, 100_000);
    let text = tell::text(&facts, &Capacity::of(&facts), 100_000, &found, false);
    for part in [
        "with poll              18 000",
        "  ok    memory                         60.0 GiB of 64.0 GiB available\n",
        "  bad   descriptors                    20 000 (hard limit 20 000)\n",
        "systemd   LimitNOFILE=131072\n",
        "\n100 000 sessions do not fit: 1 in the way.\n",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(!text.contains('\x1b'));
    assert!(tell::text(&facts, &Capacity::of(&facts), 1, &found, true).contains("\x1b[31mbad \x1b[0m"));
}

#[test]
fn what_can_be_written_is_mended_and_the_rest_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("proc/sys/net/core/somaxconn");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, "128\n").unwrap();
    let low = Sysctls { somaxconn: Some(128), syn_backlog: Some(128), ..large().sysctls };
    let found = findings(&Facts { sysctls: low, ..large() }, 1000);
    let mended = super::apply(&Root::new(folder.path()), &found);
    let [done, missing] = &mended[..] else { panic!("{} were tried", mended.len()) };
    assert_eq!(done.text(), "done: sysctl -w net.core.somaxconn=16384");
    assert_eq!(std::fs::read_to_string(file).unwrap(), "16384");
    assert!(missing.text().starts_with("not done (No such file"), "{}", missing.text());
}
