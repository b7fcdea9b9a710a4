//! What containerd, the kubelet and the network plugins are told.

use std::fs;
use std::path::Path;

use anyhow::Result;

use super::{Node, PAUSE_IMAGE};
use crate::net::free_ports;
use crate::tools;

impl Node {
    /// Writes the configuration of every part; with `taint` only pods that tolerate it come to the node.
    pub(super) fn write_configuration(&self, taint: bool) -> Result<()> {
        let [port] = free_ports()?;
        let network = self.folder.join("network");
        fs::create_dir_all(&network)?;
        fs::write(
            network.join("10-slipway.conflist"),
            network_configuration(&self.run),
        )?;
        fs::write(
            self.folder.join("containerd.toml"),
            self.containerd_configuration(&network)?,
        )?;
        fs::write(
            self.folder.join("kubelet.yaml"),
            self.kubelet_configuration(port, taint),
        )?;
        Ok(())
    }

    fn containerd_configuration(&self, network: &Path) -> Result<String> {
        let runc = tools::RUNC.folder()?.join("usr/sbin/runc");
        let plugins = tools::CNI_PLUGINS.folder()?.join("usr/lib/cni");
        let (folder, run, socket) = (self.folder.display(), self.run.display(), self.socket());
        Ok(format!(
            "version = 4
root = '{folder}/containerd'
state = '{run}/state'
imports = []

[plugins.'io.containerd.server.v1.grpc']
address = '{socket}'

[plugins.'io.containerd.server.v1.ttrpc']
address = '{socket}.ttrpc'

[plugins.'io.containerd.shim.v1.manager']
socket_dir = '{run}/shims'

[plugins.'io.containerd.nri.v1.nri']
disable = true

[plugins.'io.containerd.internal.v1.opt']
path = '{folder}/opt'

[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = '{PAUSE_IMAGE}'

[plugins.'io.containerd.cri.v1.runtime']
# Without it runc fails where its parent may not lower its own score.
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = 'io.containerd.runc.v2'

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
BinaryName = '{runc}'
Root = '{run}/runc'

[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ['{plugins}']
conf_dir = '{network}'
",
            socket = socket.display(),
            runc = runc.display(),
            plugins = plugins.display(),
            network = network.display(),
        ))
    }

    fn kubelet_configuration(&self, port: u16, taint: bool) -> String {
        let taints = if taint {
            "[{key: slipway.dev/node, value: real, effect: NoSchedule}]"
        } else {
            "[]"
        };
        format!(
            "apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: 127.0.0.1
port: {port}
readOnlyPort: 0
healthzPort: 0
# Only this machine can reach it.
authentication: {{anonymous: {{enabled: true}}, webhook: {{enabled: false}}}}
authorization: {{mode: AlwaysAllow}}
containerRuntimeEndpoint: unix://{socket}
cgroupDriver: cgroupfs
cgroupRoot: /{group}
failCgroupV1: false
failSwapOn: false
enforceNodeAllocatable: []
resolvConf: ''
podLogsDir: {folder}/pod-logs
volumePluginDir: {folder}/volume-plugins
registerWithTaints: {taints}
# The images were brought in by hand and could not be fetched again; a full disk is this machine's own affair.
imageGCHighThresholdPercent: 100
evictionHard: {{memory.available: 1Mi, nodefs.available: 0%, nodefs.inodesFree: 0%, imagefs.available: 0%}}
",
            socket = self.socket().display(),
            group = self.control_group,
            folder = self.folder.display(),
        )
    }
}

/// Pods get an address on a link of their own to this machine, and no way out of it.
fn network_configuration(run: &Path) -> String {
    serde_json::json!({
        "cniVersion": "0.4.0",
        "name": "slipway",
        "plugins": [{
            "type": "ptp",
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": "10.245.0.0/24"}]],
                "dataDir": run.join("addresses"),
            },
        }],
    })
    .to_string()
}
