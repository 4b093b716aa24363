package checks

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// cluster is what a kustomization applies.
type cluster struct {
	namespace  *core.Namespace
	workloads  []workload
	services   []*core.Service
	budgets    []*policy.PodDisruptionBudget
	policies   []*networking.NetworkPolicy
	configMaps map[string]*core.ConfigMap
	secrets    map[string]*core.Secret
}

// workload is a DaemonSet or a StatefulSet.
type workload struct {
	name     string
	selector map[string]string
	pod      core.PodTemplateSpec
	claims   []string // the names of its volume claim templates
}

// manifests returns deploy/kubernetes in memory, so that a test can add the files of an installation.
func manifests(t *testing.T) filesys.FileSystem {
	t.Helper()
	files := filesys.MakeFsInMemory()
	root := filepath.Join(repository, "deploy", "kubernetes")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		return files.WriteFile("/"+name, content)
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// build builds a kustomization and decodes each object strictly: unknown and repeated fields are errors.
func build(t *testing.T, files filesys.FileSystem, path string) *cluster {
	t.Helper()
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(files, path)
	if err != nil {
		t.Fatal(err)
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{core.AddToScheme, apps.AddToScheme, policy.AddToScheme, networking.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	decoder := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme, json.SerializerOptions{Yaml: true, Strict: true})
	c := &cluster{configMaps: map[string]*core.ConfigMap{}, secrets: map[string]*core.Secret{}}
	for _, r := range resources.Resources() {
		text, err := r.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		object, _, err := decoder.Decode(text, nil, nil)
		if err != nil {
			t.Errorf("%s %s: %v", r.GetKind(), r.GetName(), err)
			continue
		}
		if r.GetKind() != "Namespace" && r.GetNamespace() != "rempart" {
			t.Errorf("%s %s is in the namespace %q", r.GetKind(), r.GetName(), r.GetNamespace())
		}
		c.add(t, object)
	}
	return c
}

func (c *cluster) add(t *testing.T, object runtime.Object) {
	t.Helper()
	switch o := object.(type) {
	case *core.Namespace:
		c.namespace = o
	case *apps.DaemonSet:
		c.workloads = append(c.workloads, workload{o.Name, o.Spec.Selector.MatchLabels, o.Spec.Template, nil})
		u := o.Spec.UpdateStrategy.RollingUpdate
		if u == nil || u.MaxUnavailable == nil || *u.MaxUnavailable != intstr.FromInt32(0) || u.MaxSurge == nil || *u.MaxSurge != intstr.FromInt32(1) {
			t.Errorf("DaemonSet %s: an update takes capacity away: %+v", o.Name, u)
		}
	case *apps.StatefulSet:
		w := workload{o.Name, o.Spec.Selector.MatchLabels, o.Spec.Template, nil}
		for _, claim := range o.Spec.VolumeClaimTemplates {
			w.claims = append(w.claims, claim.Name)
		}
		c.workloads = append(c.workloads, w)
		if *o.Spec.Replicas != 1 {
			t.Errorf("StatefulSet %s: %d replicas, but the set has one writer", o.Name, *o.Spec.Replicas)
		}
	case *core.Service:
		c.services = append(c.services, o)
	case *policy.PodDisruptionBudget:
		c.budgets = append(c.budgets, o)
	case *networking.NetworkPolicy:
		c.policies = append(c.policies, o)
	case *core.ConfigMap:
		c.configMaps[o.Name] = o
	case *core.Secret:
		c.secrets[o.Name] = o
	default:
		t.Errorf("an object of the type %T, which this test does not know", o)
	}
}

// workload returns a workload by its name.
func (c *cluster) workload(t *testing.T, name string) workload {
	t.Helper()
	for _, w := range c.workloads {
		if w.name == name {
			return w
		}
	}
	t.Fatalf("no workload %s", name)
	return workload{}
}

// settings returns the environment of the first container of a workload, without values that depend on the node.
func (c *cluster) settings(t *testing.T, name string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, from := range c.workload(t, name).pod.Spec.Containers[0].EnvFrom {
		m := c.configMaps[from.ConfigMapRef.Name]
		if m == nil {
			t.Fatalf("%s: no ConfigMap %s", name, from.ConfigMapRef.Name)
		}
		for variable, value := range m.Data {
			all[variable] = value
		}
	}
	return all
}

// mounts writes the Secrets and ConfigMaps that are mounted in the first container of a workload to folders, and returns the folder of each mount path.
func (c *cluster) mounts(t *testing.T, name string) map[string]string {
	t.Helper()
	w := c.workload(t, name)
	folders := map[string]string{}
	for _, mount := range w.pod.Spec.Containers[0].VolumeMounts {
		for _, v := range w.pod.Spec.Volumes {
			content := map[string][]byte{}
			switch {
			case v.Name != mount.Name:
				continue
			case v.Secret != nil && c.secrets[v.Secret.SecretName] == nil, v.ConfigMap != nil && c.configMaps[v.ConfigMap.Name] == nil:
				t.Fatalf("%s: the object of the volume %s does not exist", name, v.Name)
			case v.Secret != nil:
				content = c.secrets[v.Secret.SecretName].Data
			case v.ConfigMap != nil:
				for file, text := range c.configMaps[v.ConfigMap.Name].Data {
					content[file] = []byte(text)
				}
			default:
				continue
			}
			dir := t.TempDir()
			for file, data := range content {
				if err := os.WriteFile(filepath.Join(dir, file), data, 0o440); err != nil {
					t.Fatal(err)
				}
			}
			folders[mount.MountPath] = dir
		}
	}
	return folders
}

// TestPlaceholdersAreRefused checks that neither program starts with the values in the tree, and that a build of an installation without its secrets names a missing
// file.
func TestPlaceholdersAreRefused(t *testing.T) {
	c := build(t, manifests(t), "/base")
	edge, control := c.settings(t, "edge"), c.settings(t, "control")
	refuse := func(name, variable string, settings map[string]string) {
		t.Helper()
		if out, err := runValidate(t, settings, c.mounts(t, name)); err == nil || !strings.Contains(out, variable) {
			t.Errorf("%s starts, or does not say that %s is a placeholder: %v\n%s", name, variable, err, out)
		}
	}
	refuse("edge", "REMPART_PAGE_IPV4", edge)
	edge["REMPART_PAGE_IPV4"] = "192.0.2.80"
	refuse("edge", "REMPART_CONTROL_KEY", edge)
	refuse("control", "REMPART_PUSH_CERT", control)
	if _, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(manifests(t), "/site"); err == nil || !strings.Contains(err.Error(), "secrets/") {
		t.Errorf("without secrets: %v", err)
	}
}

// TestInstallationIsValid fills deploy/kubernetes/site with keys, certificates and values, and checks that the programs accept the settings.
func TestInstallationIsValid(t *testing.T) {
	files := manifests(t)
	root := fillSite(t, files, filepath.Join(t.TempDir(), "keys"))
	c := build(t, files, "/site")
	checkCluster(t, c)
	for _, name := range []string{"edge", "control"} {
		settings := c.settings(t, name)
		if name == "edge" && settings["REMPART_CONTROL_KEY"] != root {
			t.Errorf("REMPART_CONTROL_KEY=%s, want %s", settings["REMPART_CONTROL_KEY"], root)
		}
		validate(t, settings, c.mounts(t, name))
	}
	for _, w := range c.workloads {
		for _, container := range append(w.pod.Spec.InitContainers, w.pod.Spec.Containers...) {
			if !strings.HasPrefix(container.Image, "registry.example/rempart") || !strings.Contains(container.Image, ":") {
				t.Errorf("%s: the image %s has no registry or no version", w.name, container.Image)
			}
		}
	}
}

// TestBaseIsValid checks the objects without an installation.
func TestBaseIsValid(t *testing.T) { checkCluster(t, build(t, manifests(t), "/base")) }

// fillSite writes the files that an installation needs, and the keys of control to the new folder keys, and returns the root key of control.
func fillSite(t *testing.T, files filesys.FileSystem, keys string) (root string) {
	t.Helper()
	out, err := runProgram(t, []string{"keys", "init"}, []string{"REMPART_KEYS=" + keys})
	if err != nil {
		t.Fatalf("rempart keys init: %v\n%s", err, out)
	}
	_, root, _ = strings.Cut(out, "REMPART_CONTROL_KEY=")
	root = strings.TrimSpace(root)
	secrets := serverCertificate(t, "control.rempart.svc")
	secrets["token"] = []byte("token\n")
	for _, name := range []string{"control.key", "desk.key", "feeds.key", "ring"} {
		if secrets[name], err = os.ReadFile(filepath.Join(keys, name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range secrets {
		if err := files.WriteFile("/site/secrets/"+name, content); err != nil {
			t.Fatal(err)
		}
	}
	env, err := files.ReadFile("/site/edge.env")
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"REMPART_CONTROL_KEY": root, "REMPART_PAGE_IPV4": "192.0.2.80", "REMPART_CLIENTS": "192.0.2.0/24,2001:db8::/32", "REMPART_ORGANISATION": "Example",
	} {
		env = bytes.Replace(env, []byte(name+"=REPLACE\n"), []byte(name+"="+value+"\n"), 1)
	}
	if bytes.Contains(env, []byte("=REPLACE")) {
		t.Fatalf("a value that this test does not replace:\n%s", env)
	}
	if err := files.WriteFile("/site/edge.env", env); err != nil {
		t.Fatal(err)
	}
	return root
}
