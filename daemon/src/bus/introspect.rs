// SPDX-License-Identifier: MIT OR Apache-2.0
//! What `busctl introspect` shows of the objects that have others below them.
//!
//! zbus tells all objects below with all their interfaces, which among hundreds of units is megabytes. These tell the names of
//! those directly below, as systemd does.

use super::calls::Calls;
use super::manager::Manager;
use super::object_manager::ObjectManager;
use super::{MANAGER_PATH, path};
use zbus::names::InterfaceName;
use zbus::object_server::Interface;
use zbus::{Connection, ObjectServer};

const DOCUMENT_TYPE: &str =
    "<!DOCTYPE node PUBLIC \"-//freedesktop//DTD D-BUS Object Introspection 1.0//EN\"
 \"http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd\">
";

/// What zbus serves on every object.
const STANDARD: &str = r#"  <interface name="org.freedesktop.DBus.Peer">
    <method name="Ping"/>
    <method name="GetMachineId">
      <arg type="s" direction="out"/>
    </method>
  </interface>
  <interface name="org.freedesktop.DBus.Properties">
    <method name="Get">
      <arg name="interface_name" type="s" direction="in"/>
      <arg name="property_name" type="s" direction="in"/>
      <arg type="v" direction="out"/>
    </method>
    <method name="Set">
      <arg name="interface_name" type="s" direction="in"/>
      <arg name="property_name" type="s" direction="in"/>
      <arg name="value" type="v" direction="in"/>
    </method>
    <method name="GetAll">
      <arg name="interface_name" type="s" direction="in"/>
      <arg type="a{sv}" direction="out"/>
    </method>
    <signal name="PropertiesChanged">
      <arg name="interface_name" type="s"/>
      <arg name="changed_properties" type="a{sv}"/>
      <arg name="invalidated_properties" type="as"/>
    </signal>
  </interface>
"#;

/// An object that has others below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    Root,
    Org,
    Manager,
    Units,
}

impl Node {
    /// Those that are there from the beginning.
    const FIRST: [Node; 3] = [Node::Root, Node::Org, Node::Manager];

    fn path(self) -> &'static str {
        match self {
            Node::Root => "/",
            Node::Org => "/org",
            Node::Manager => MANAGER_PATH,
            Node::Units => path::UNITS,
        }
    }

    fn children(self, calls: &Calls) -> Vec<String> {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        match self {
            Node::Root => names(&["org"]),
            Node::Org => names(&["bpfoomd1", "freedesktop"]),
            Node::Manager => names(&["policy", "unit"]),
            Node::Units => {
                let shown = calls.shown();
                shown.units.keys().map(|unit| path::label(unit)).collect()
            }
        }
    }
}

/// The standard interface by which an object says what it is.
#[derive(Debug)]
struct Introspectable {
    node: Node,
    calls: Calls,
}

#[zbus::interface(
    name = "org.freedesktop.DBus.Introspectable",
    introspection_docs = false
)]
impl Introspectable {
    #[zbus(out_args("xml_data"))]
    fn introspect(&self) -> String {
        let mut xml = format!("{DOCUMENT_TYPE}<node>\n");
        if self.node == Node::Manager {
            Manager::new(self.calls.clone()).introspect_to_writer(&mut xml, 2);
            ObjectManager::new(self.calls.clone()).introspect_to_writer(&mut xml, 2);
        }
        self.introspect_to_writer(&mut xml, 2);
        xml.push_str(STANDARD);
        for child in self.node.children(&self.calls) {
            xml.push_str("  <node name=\"");
            // A label: nothing in it means anything in XML.
            xml.push_str(&child);
            xml.push_str("\"/>\n");
        }
        xml.push_str("</node>\n");
        xml
    }
}

/// Puts this in place of what zbus does, on the objects that are there from the beginning.
pub(super) async fn serve(bus: &Connection, calls: &Calls) -> zbus::Result<()> {
    for node in Node::FIRST {
        replace(bus.object_server(), node, calls).await?;
    }
    Ok(())
}

/// The same for an object that has come to be.
pub(super) async fn replace(objects: &ObjectServer, node: Node, calls: &Calls) -> zbus::Result<()> {
    let name: InterfaceName<'static> = Introspectable::name();
    objects.remove_named(node.path(), name).await?;
    let calls = calls.clone();
    let introspectable = Introspectable { node, calls };
    objects.at(node.path(), introspectable).await?;
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::bus::policy::Policy;
    use crate::bus::unit::Unit;
    use std::fs;
    use std::path::Path;

    /// Makes the test write the files that it would compare: for whoever has changed the interface and means it.
    const WRITE: &str = "BPF_OOMD_WRITE_INTERFACES";

    fn file(object: &impl Interface) -> String {
        let mut text = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <!-- SPDX-License-Identifier: MIT OR Apache-2.0 -->\n\
             {DOCUMENT_TYPE}<node>\n"
        );
        object.introspect_to_writer(&mut text, 2);
        text.push_str("</node>\n");
        text
    }

    #[test]
    fn what_is_installed_is_what_is_served() {
        let calls = crate::bus::tests::calls();
        let policy = crate::policy::Policy::Kernel;
        for (name, served) in [
            ("Manager", file(&Manager::new(calls.clone()))),
            ("Unit", file(&Unit::new("x.service".into(), calls.clone()))),
            ("Policy", file(&Policy::new(policy, calls.clone()))),
        ] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("../units/usr/share/dbus-1/interfaces")
                .join(format!("org.bpfoomd1.{name}.xml"));
            if std::env::var_os(WRITE).is_some() {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(&path, &served).unwrap();
            }
            let installed = fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(installed, served, "{WRITE}=1 writes {}", path.display());
            // It would end a comment.
            let comments = served.split("<!--").skip(1);
            for comment in comments.filter_map(|rest| rest.split_once("-->")) {
                assert!(!comment.0.contains("--"), "{}", comment.0);
            }
        }
    }
}
