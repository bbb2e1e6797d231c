//! Network interfaces: their queues, their interrupts, the node they are near.

use crate::root::{Absent, Root};

/// An interface with hardware (or a hypervisor's idea of it) behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nic {
    /// Such as `eth0`.
    pub name: String,
    /// Such as `virtio_net`.
    pub driver: Option<String>,
    /// The memory node; `None` where there is only one, or none is told.
    pub node: Option<u32>,
    /// Receive queues.
    pub rx_queues: usize,
    /// Send queues.
    pub tx_queues: usize,
    /// The interrupts of its queues.
    pub irqs: Vec<Irq>,
}

/// An interrupt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Irq {
    /// Its number.
    pub number: u32,
    /// What `/proc/interrupts` calls it.
    pub name: String,
    /// Where it may arrive.
    pub cpus: Result<Vec<u32>, Absent>,
}

/// What this process sees of the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nics {
    /// Those that are up and have a device.
    pub real: Vec<Nic>,
    /// Those without one: bridges, veth pairs; the loopback is not counted.
    pub virtual_names: Vec<String>,
}

impl Nics {
    /// Reads the interfaces of this network namespace.
    pub fn read(root: &Root) -> Result<Self, Absent> {
        let mut nics = Self { real: Vec::new(), virtual_names: Vec::new() };
        let interrupts = interrupts(&if_there(root.text("/proc/interrupts"))?);
        for name in root.list("/sys/class/net")? {
            let folder = format!("/sys/class/net/{name}");
            if name == "lo" {
                continue;
            }
            if !root.is_there(&format!("{folder}/device"))? {
                nics.virtual_names.push(name);
                continue;
            }
            // A virtio interface may not know its carrier and says `unknown`.
            if root.text(&format!("{folder}/operstate")).is_ok_and(|state| state == "down") {
                continue;
            }
            nics.real.push(read_one(root, name, &interrupts)?);
        }
        Ok(nics)
    }
}

/// What a kernel without it does not show is empty; what is there and cannot be read is not known.
fn if_there<T: Default>(read: Result<T, Absent>) -> Result<T, Absent> {
    match read {
        Err(Absent::Missing { .. }) => Ok(T::default()),
        other => other,
    }
}

fn read_one(root: &Root, name: String, interrupts: &[(u32, String)]) -> Result<Nic, Absent> {
    let folder = format!("/sys/class/net/{name}");
    let queues = if_there(root.list(&format!("{folder}/queues")))?;
    let count = |kind: &str| queues.iter().filter(|queue| queue.starts_with(kind)).count();
    let node = root.number::<i64>(&format!("{folder}/device/numa_node")).ok();
    Ok(Nic {
        driver: root.link_name(&format!("{folder}/device/driver")),
        node: node.and_then(|node| u32::try_from(node).ok()),
        rx_queues: count("rx-"),
        tx_queues: count("tx-"),
        irqs: irqs(root, &name, interrupts),
        name,
    })
}

/// The interrupts of the device that are about queues. Those of a virtio device belong to its
/// parent on the bus.
fn irqs(root: &Root, name: &str, interrupts: &[(u32, String)]) -> Vec<Irq> {
    let device = format!("/sys/class/net/{name}/device");
    let of_device = ["msi_irqs", "../msi_irqs"]
        .iter()
        .find_map(|folder| root.list(&format!("{device}/{folder}")).ok())
        .unwrap_or_default();
    let numbers: Vec<u32> = of_device.iter().filter_map(|irq| irq.parse().ok()).collect();
    let ours = interrupts.iter().filter(|(number, action)| {
        let own = numbers.contains(number) || (numbers.is_empty() && names(action, name));
        own && !NOT_QUEUES.iter().any(|word| action.contains(word))
    });
    ours.map(|(number, action)| Irq {
        number: *number,
        name: action.clone(),
        cpus: root.cpus(&format!("/proc/irq/{number}/smp_affinity_list")),
    })
    .collect()
}

/// Whether the name of an interrupt has the interface's name as a word of its own: `eth10-rx-0` is
/// not of `eth1`.
fn names(action: &str, name: &str) -> bool {
    let apart = |c: Option<char>| c.is_none_or(|c| !c.is_ascii_alphanumeric());
    action.match_indices(name).any(|(at, _)| {
        let (before, after) = (&action[..at], &action[at + name.len()..]);
        apart(before.chars().next_back()) && apart(after.chars().next())
    })
}

/// Parts of the names of interrupts that a device has besides its queues.
const NOT_QUEUES: &[&str] =
    &["config", "async", "mgmt", "mgmnt", "fdir", "cmd", "event", "control"];

/// Number and name of each line of `/proc/interrupts`; the name is its last word.
fn interrupts(text: &str) -> Vec<(u32, String)> {
    let line = |line: &str| {
        let (number, rest) = line.trim().split_once(':')?;
        Some((number.parse().ok()?, rest.split_whitespace().next_back()?.to_owned()))
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interrupts_are_of_the_interface_that_they_name() {
        let check = |action: &str, name: &str, own: bool| {
            assert_eq!(names(action, name), own, "{action} {name}");
        };
        check("eth1", "eth1", true);
        check("eth1-rx-0", "eth1", true);
        check("ice-eth1-TxRx-3", "eth1", true);
        check("eth10-rx-0", "eth1", false);
        check("xeth1-rx-0", "eth1", false);
        check("eth10-eth1", "eth1", true);
        check("virtio0-input.0", "eth1", false);
        check("eth1.100-rx-0", "eth1", true);
    }

    #[test]
    fn only_interrupts_of_queues_count() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        let put = |path: &str, text: &str| {
            let path = root.path(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put(
            "/proc/interrupts",
            "  30: 1 PCI-MSI 0-edge ena-mgmnt@pci:0000:00:05.0\n\
             \x20 31: 1 PCI-MSI 1-edge eth1-Tx-Rx-0\n\
             \x20 32: 1 PCI-MSI 2-edge gve-mgmnt-blk@pci:0000:00:04.0\n\
             \x20 33: 1 PCI-MSI 3-edge eth10-Tx-Rx-0\n",
        );
        put("/sys/class/net/eth1/operstate", "up\n");
        put("/sys/class/net/eth1/device/vendor", "0x1d0f\n");
        let numbers = |root: &Root| -> Vec<u32> {
            Nics::read(root).unwrap().real[0].irqs.iter().map(|irq| irq.number).collect()
        };
        // By name alone, and by the device's own list.
        assert_eq!(numbers(&root), [31]);
        for irq in [30, 31, 32] {
            put(&format!("/sys/class/net/eth1/device/msi_irqs/{irq}"), "msix\n");
        }
        assert_eq!(numbers(&root), [31]);
    }
}
