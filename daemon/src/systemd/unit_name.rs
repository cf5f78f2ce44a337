// SPDX-License-Identifier: MIT OR Apache-2.0
//! What names say by themselves: of units, of their D-Bus objects, and of the cgroups that systemd makes for them.
//!
//! The rules are those of systemd.unit(5), systemd.slice(5), org.freedesktop.systemd1(5) and, for cgroups,
//! <https://systemd.io/CGROUP_DELEGATION>.

/// The root slice. Its cgroup is the root of the tree: a policy on it is the system-wide one.
pub const ROOT_SLICE: &str = "-.slice";

/// Where the objects of units live on the bus.
pub const OBJECT_PREFIX: &str = "/org/freedesktop/systemd1/unit/";

/// The section of a unit file that holds the resource settings of this kind of unit. None for kinds of units that
/// have no cgroup.
pub fn section(unit: &str) -> Option<&'static str> {
    Some(match unit.rsplit_once('.')?.1 {
        "service" => "Service",
        "slice" => "Slice",
        "scope" => "Scope",
        "socket" => "Socket",
        "mount" => "Mount",
        "swap" => "Swap",
        _ => return None,
    })
}

/// The slice above a slice: `a-b.slice` is in `a.slice`, that one in `-.slice`, and that one in none.
pub fn parent_slice(slice: &str) -> Option<String> {
    if slice == ROOT_SLICE {
        return None;
    }
    let stem = slice.strip_suffix(".slice")?;
    Some(match stem.rsplit_once('-') {
        Some((parent, _)) => format!("{parent}.slice"),
        None => ROOT_SLICE.to_owned(),
    })
}

/// The unit a D-Bus object stands for. None if it is no unit's object.
pub fn of_object_path(path: &str) -> Option<String> {
    let label = path.strip_prefix(OBJECT_PREFIX)?;
    let mut name = Vec::with_capacity(label.len());
    let mut bytes = label.bytes();
    while let Some(byte) = bytes.next() {
        // "_xx": a character that an object path cannot have, as two hexadecimal digits.
        if byte == b'_' {
            let digit = |b: u8| char::from(b).to_digit(16);
            let (high, low) = (digit(bytes.next()?)?, digit(bytes.next()?)?);
            name.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            name.push(byte);
        }
    }
    String::from_utf8(name).ok()
}

/// The units a cgroup belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CgroupUnits {
    /// The unit of the system manager.
    pub unit: String,
    /// The unit of the user manager that runs in `unit`, if it is below one.
    pub user_unit: Option<String>,
}

/// The units a cgroup belongs to, by its path from the root of the tree.
///
/// A unit's cgroup may have cgroups of its own below it; they belong to it. The cgroups of slices are on the way.
pub fn of_cgroup(path: &str) -> CgroupUnits {
    let mut parts = path
        .split('/')
        .filter(|part| !part.is_empty())
        .map(unescape);
    let unit = descend(&mut parts);
    // Below user@UID.service is another manager's tree, which starts again with slices or with a unit.
    let user_unit = (unit.starts_with("user@") && unit.ends_with(".service"))
        .then(|| descend(&mut parts))
        .filter(|user_unit| user_unit != ROOT_SLICE);
    CgroupUnits { unit, user_unit }
}

/// Follows slices down to the first part that is a unit in them, or else to the last slice.
fn descend<'a>(parts: &mut impl Iterator<Item = &'a str>) -> String {
    let mut slice = ROOT_SLICE;
    for part in parts {
        if part.ends_with(".slice") {
            slice = part;
        } else if section(part).is_some() {
            return part.to_owned();
        } else {
            // A cgroup that is no unit: it belongs to the slice it is in.
            break;
        }
    }
    slice.to_owned()
}

/// systemd puts a "_" before names that would collide with the kernel's own file names in a cgroup.
fn unescape(part: &str) -> &str {
    part.strip_prefix('_').unwrap_or(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(path: &str) -> (String, Option<String>) {
        let found = of_cgroup(path);
        (found.unit, found.user_unit)
    }

    #[test]
    fn slices_nest_by_their_names() {
        assert_eq!(parent_slice("a-b-c.slice").as_deref(), Some("a-b.slice"));
        assert_eq!(parent_slice("a.slice").as_deref(), Some("-.slice"));
        assert_eq!(parent_slice("-.slice"), None);
        assert_eq!(parent_slice("a.service"), None);
    }

    #[test]
    fn going_up_always_ends() {
        // Names systemd would not load, but that may come from anywhere.
        for odd in ["-a.slice", "a--b.slice", "--.slice", ".slice", "-.slice"] {
            let mut slice = odd.to_owned();
            for _ in 0..10 {
                match parent_slice(&slice) {
                    Some(parent) => slice = parent,
                    None => break,
                }
            }
            assert_eq!(parent_slice(&slice), None, "{odd}");
        }
    }

    #[test]
    fn an_object_path_is_read_back_into_a_name() {
        assert_eq!(
            of_object_path("/org/freedesktop/systemd1/unit/dev_2ddisk_5cx2dby_2eswap").as_deref(),
            Some("dev-disk\\x2dby.swap")
        );
        assert_eq!(
            of_object_path("/org/freedesktop/systemd1/unit/_2d_2eslice").as_deref(),
            Some("-.slice")
        );
        for bad in [
            "/org/freedesktop/systemd1/job/1",
            "/org/freedesktop/systemd1/unit/a_2",
            "/org/freedesktop/systemd1/unit/a_zz",
            "/org/freedesktop/systemd1/unit/a_ff",
        ] {
            assert_eq!(of_object_path(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_cgroup_belongs_to_the_unit_it_is_below() {
        assert_eq!(units("/a.slice/a-b.slice/x.service").0, "x.service");
        assert_eq!(units("/a.slice/x.service/worker/7").0, "x.service");
        assert_eq!(units("/a.slice/a-b.slice").0, "a-b.slice");
        assert_eq!(units("/init.scope").0, "init.scope");
        assert_eq!(units("/").0, "-.slice");
        assert_eq!(units("/kubepods/pod7").0, "-.slice");
        assert_eq!(units("/system.slice/_cpu.service").0, "cpu.service");
    }

    #[test]
    fn a_user_managers_units_are_found_below_its_service() {
        assert_eq!(
            units("/user.slice/user-1.slice/user@1.service/app.slice/b.scope"),
            ("user@1.service".into(), Some("b.scope".into()))
        );
        assert_eq!(
            units("/user.slice/user-1.slice/user@1.service/init.scope"),
            ("user@1.service".into(), Some("init.scope".into()))
        );
        assert_eq!(
            units("/user.slice/user-1.slice/user@1.service"),
            ("user@1.service".into(), None)
        );
        assert_eq!(units("/system.slice/x.service/app.slice").1, None);
    }
}
