package checks

import (
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"

	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// checkCluster checks the references between the objects, and what the pods may do.
func checkCluster(t *testing.T, c *cluster) {
	t.Helper()
	if c.namespace == nil || c.namespace.Labels["pod-security.kubernetes.io/enforce"] != "restricted" {
		t.Error("the namespace does not enforce the standard \"restricted\"")
	}
	for _, w := range c.workloads {
		if !covers(w.selector, w.pod.Labels) {
			t.Errorf("%s: its selector does not select its pods", w.name)
		}
		checkPod(t, w.name, w.pod.Spec)
		checkMounts(t, c, w)
	}
	for _, s := range c.services {
		checkService(t, c, s)
	}
	for _, b := range c.budgets {
		if len(c.selected(b.Spec.Selector.MatchLabels)) != 1 || b.Spec.MinAvailable == nil || b.Spec.MinAvailable.Type != intstr.Int || b.Spec.MaxUnavailable != nil {
			t.Errorf("PodDisruptionBudget %s: it selects no workload, or has a bound that does not work for a DaemonSet", b.Name)
		}
	}
	for _, p := range c.policies {
		checkPolicy(t, c, p)
	}
	checkEdge(t, c)
}

// covers reports whether labels contain a non-empty selector.
func covers(selector, labels map[string]string) bool {
	for name, value := range selector {
		if labels[name] != value {
			return false
		}
	}
	return len(selector) > 0
}

// selected returns the workloads whose pods have the labels; all if there are none.
func (c *cluster) selected(labels map[string]string) (found []workload) {
	for _, w := range c.workloads {
		if len(labels) == 0 || covers(labels, w.pod.Labels) {
			found = append(found, w)
		}
	}
	return found
}

// ports returns the named ports of a pod, as "name/PROTOCOL".
func ports(pod core.PodSpec) map[string]int32 {
	found := map[string]int32{}
	for _, container := range slices.Concat(pod.InitContainers, pod.Containers) {
		for _, p := range container.Ports {
			protocol := p.Protocol
			if protocol == "" {
				protocol = core.ProtocolTCP
			}
			found[p.Name+"/"+string(protocol)] = p.ContainerPort
		}
	}
	return found
}

// checkPod checks that a pod runs under the standard "restricted" and more, and that its containers have probes and resources.
func checkPod(t *testing.T, name string, pod core.PodSpec) {
	t.Helper()
	s := pod.SecurityContext
	if s == nil || s.RunAsNonRoot == nil || !*s.RunAsNonRoot || s.SeccompProfile == nil || s.SeccompProfile.Type != core.SeccompProfileTypeRuntimeDefault {
		t.Errorf("%s: the pod may run as root, or without a seccomp profile", name)
	}
	if pod.HostNetwork || pod.HostPID || pod.HostIPC || pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken || pod.EnableServiceLinks == nil || *pod.EnableServiceLinks {
		t.Errorf("%s: the pod uses the host's namespaces, a token of the cluster, or variables of Services", name)
	}
	if pod.ServiceAccountName != "" {
		t.Errorf("%s: the service account %s is not in this kustomization", name, pod.ServiceAccountName)
	}
	for _, container := range slices.Concat(pod.InitContainers, pod.Containers) {
		at := name + "/" + container.Name
		c := container.SecurityContext
		if c == nil || c.AllowPrivilegeEscalation == nil || *c.AllowPrivilegeEscalation || c.ReadOnlyRootFilesystem == nil || !*c.ReadOnlyRootFilesystem ||
			c.Capabilities == nil || !slices.Equal(c.Capabilities.Drop, []core.Capability{"ALL"}) || len(c.Capabilities.Add) > 0 {
			t.Errorf("%s: not confined: %+v", at, c)
		}
		r := container.Resources
		if r.Requests.Cpu().IsZero() || r.Requests.Memory().IsZero() || r.Limits.Memory().IsZero() || !r.Limits.Cpu().IsZero() {
			t.Errorf("%s: want requests for CPU and memory, and a limit for memory only", at)
		}
		for kind, probe := range map[string]*core.Probe{"liveness": container.LivenessProbe, "startup": container.StartupProbe, "readiness": container.ReadinessProbe} {
			if probe == nil {
				if kind != "readiness" || container.RestartPolicy == nil {
					t.Errorf("%s: no %s probe", at, kind)
				}
				continue
			}
			if probe.HTTPGet == nil {
				continue
			}
			if _, ok := ports(pod)[probe.HTTPGet.Port.StrVal+"/TCP"]; !ok {
				t.Errorf("%s: the %s probe asks the port %s, which the pod does not have", at, kind, probe.HTTPGet.Port.String())
			}
			if want := map[string]string{"liveness": "/livez", "startup": "/livez", "readiness": "/readyz"}[kind]; probe.HTTPGet.Path != want {
				t.Errorf("%s: the %s probe asks for %s, want %s", at, kind, probe.HTTPGet.Path, want)
			}
		}
		for _, p := range container.Ports {
			if p.HostPort != 0 || p.Name == "" {
				t.Errorf("%s: the port %d has no name, or is a port of the host", at, p.ContainerPort)
			}
		}
		if l := container.Lifecycle; l != nil && l.PreStop != nil && l.PreStop.Sleep.Seconds+10 > *pod.TerminationGracePeriodSeconds {
			t.Errorf("%s: it is killed before it has answered the queries that it received", at)
		}
	}
}

// checkMounts checks that each mount has a volume, each volume a mount, and each source of a volume or a variable an object.
func checkMounts(t *testing.T, c *cluster, w workload) {
	t.Helper()
	used := map[string]bool{}
	for _, claim := range w.claims {
		used[claim] = false
	}
	for _, v := range w.pod.Spec.Volumes {
		used[v.Name] = false
		switch {
		case v.Secret != nil && c.secrets[v.Secret.SecretName] == nil, v.ConfigMap != nil && c.configMaps[v.ConfigMap.Name] == nil:
			t.Errorf("%s: the object of the volume %s does not exist", w.name, v.Name)
		case v.Secret == nil && v.ConfigMap == nil && v.EmptyDir == nil:
			t.Errorf("%s: the volume %s is of another kind than Secret, ConfigMap and emptyDir", w.name, v.Name)
		}
	}
	for _, container := range slices.Concat(w.pod.Spec.InitContainers, w.pod.Spec.Containers) {
		for _, m := range container.VolumeMounts {
			if _, ok := used[m.Name]; !ok {
				t.Errorf("%s/%s: no volume %s", w.name, container.Name, m.Name)
			}
			used[m.Name] = true
		}
		for _, from := range container.EnvFrom {
			if from.ConfigMapRef == nil || c.configMaps[from.ConfigMapRef.Name] == nil {
				t.Errorf("%s/%s: the object of its variables does not exist", w.name, container.Name)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(used)) {
		if !used[name] {
			t.Errorf("%s: the volume %s is not mounted", w.name, name)
		}
	}
}

func checkService(t *testing.T, c *cluster, s *core.Service) {
	t.Helper()
	pods := c.selected(s.Spec.Selector)
	if len(pods) != 1 {
		t.Errorf("Service %s selects %d workloads, want one", s.Name, len(pods))
		return
	}
	for _, p := range s.Spec.Ports {
		protocol := p.Protocol
		if protocol == "" {
			protocol = core.ProtocolTCP
		}
		if _, ok := ports(pods[0].pod.Spec)[p.TargetPort.StrVal+"/"+string(protocol)]; !ok {
			t.Errorf("Service %s: the pods have no port %s over %s", s.Name, p.TargetPort.String(), protocol)
		}
	}
}

// checkPolicy checks that the pods and the named ports of a policy exist.
func checkPolicy(t *testing.T, c *cluster, p *networking.NetworkPolicy) {
	t.Helper()
	mine := c.selected(p.Spec.PodSelector.MatchLabels)
	if len(mine) == 0 {
		t.Errorf("NetworkPolicy %s selects no pods", p.Name)
	}
	for _, rule := range p.Spec.Ingress {
		c.checkPeers(t, p.Name, rule.From)
		checkPolicyPorts(t, p.Name, rule.Ports, mine)
	}
	for _, rule := range p.Spec.Egress {
		checkPolicyPorts(t, p.Name, rule.Ports, c.checkPeers(t, p.Name, rule.To))
	}
}

// checkPeers checks that the peers in this namespace exist, and returns them.
func (c *cluster) checkPeers(t *testing.T, name string, peers []networking.NetworkPolicyPeer) (found []workload) {
	t.Helper()
	for _, peer := range peers {
		if peer.PodSelector == nil || peer.NamespaceSelector != nil {
			continue
		}
		pods := c.selected(peer.PodSelector.MatchLabels)
		if len(pods) == 0 {
			t.Errorf("NetworkPolicy %s: no pods have the labels %v", name, peer.PodSelector.MatchLabels)
		}
		found = append(found, pods...)
	}
	return found
}

func checkPolicyPorts(t *testing.T, name string, list []networking.NetworkPolicyPort, pods []workload) {
	t.Helper()
	if len(list) == 0 {
		t.Errorf("NetworkPolicy %s: a rule without ports", name)
	}
	for _, port := range list {
		if port.Port.Type == intstr.Int {
			continue
		}
		for _, w := range pods {
			if _, ok := ports(w.pod.Spec)[port.Port.StrVal+"/"+string(*port.Protocol)]; !ok {
				t.Errorf("NetworkPolicy %s: the pods of %s have no port %s", name, w.name, port.Port.StrVal)
			}
		}
		if len(pods) == 0 {
			t.Errorf("NetworkPolicy %s: the port %s is of no pods of this namespace", name, port.Port.StrVal)
		}
	}
}

// checkEdge checks the facts that two objects share: the address of control, and the ports on which the programs listen.
func checkEdge(t *testing.T, c *cluster) {
	t.Helper()
	edge, settings := c.workload(t, "edge"), c.settings(t, "edge")
	control, err := url.Parse(settings["REMPART_CONTROL"])
	if err != nil {
		t.Fatal(err)
	}
	alias := edge.pod.Spec.HostAliases[0]
	for _, s := range c.services {
		switch s.Name {
		case "control":
			if s.Spec.ClusterIP != alias.IP || !slices.Contains(alias.Hostnames, control.Hostname()) || control.Hostname() != s.Name+"."+s.Namespace+".svc" {
				t.Errorf("REMPART_CONTROL=%s, the Service has the address %s, and the hosts file says %+v", control, s.Spec.ClusterIP, alias)
			}
			if control.Port() != portNumber(uint32(s.Spec.Ports[0].Port)) {
				t.Errorf("REMPART_CONTROL=%s, but the Service has the port %d", control, s.Spec.Ports[0].Port)
			}
		case "edge":
			if s.Spec.ExternalTrafficPolicy != core.ServiceExternalTrafficPolicyLocal {
				t.Error("the Service hides the addresses of clients")
			}
		}
	}
	for name, want := range map[string]map[string]string{
		"edge":    {"dns-udp/UDP": "REMPART_LISTEN", "dns-tcp/TCP": "REMPART_LISTEN", "page/TCP": "REMPART_PAGE_LISTEN", "metrics/TCP": "REMPART_METRICS_LISTEN"},
		"control": {"api/TCP": "REMPART_PUSH_LISTEN", "metrics/TCP": "REMPART_METRICS_LISTEN"},
	} {
		settings, have := c.settings(t, name), ports(c.workload(t, name).pod.Spec)
		if len(have) != len(want) {
			t.Errorf("%s has the ports %v", name, have)
		}
		for port, setting := range want {
			if !strings.HasSuffix(settings[setting], ":"+portNumber(uint32(have[port]))) {
				t.Errorf("%s: nothing listens on the port %s (%d): %s=%s", name, port, have[port], setting, settings[setting])
			}
		}
	}
}
