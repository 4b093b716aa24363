package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

const (
	imageUser = 65532 // by custom, the user of images without a shell
	imageData = "/var/lib/rempart"
	imageName = "rempart"
)

// platformImage is the image of a target.
type platformImage struct {
	target target
	image  v1.Image
}

// buildImage makes the image of a target: the program, the certificates of authorities, a user and a folder for data.
func buildImage(s *source, t target, program string, d *documents) (v1.Image, error) {
	content, err := os.ReadFile(program)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := writeRoot(&b, content, d.licences, s.time); err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil },
		tarball.WithMediaType(types.OCILayer), tarball.WithCompressedCaching, tarball.WithCompressionLevel(9))
	if err != nil {
		return nil, err
	}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err = mutate.Append(image, mutate.Addendum{Layer: layer, MediaType: types.OCILayer, History: v1.History{Created: v1.Time{Time: s.time}, CreatedBy: "deploy/release"}})
	if err != nil {
		return nil, err
	}
	c, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	c = c.DeepCopy()
	c.Created, c.Author = v1.Time{Time: s.time}, s.maintainer
	platform := t.platform()
	c.OS, c.Architecture, c.Variant = platform.OS, platform.Architecture, platform.Variant
	c.Config = imageConfig(s)
	return mutate.ConfigFile(image, c)
}

// imageConfig returns how the image is run. The ports are those of the program's defaults: not every container engine lets a user other than root bind port 53.
func imageConfig(s *source) v1.Config {
	labels := map[string]string{
		"org.opencontainers.image.title": "Rempart", "org.opencontainers.image.description": summary, "org.opencontainers.image.version": s.version,
		"org.opencontainers.image.revision": s.commit, "org.opencontainers.image.created": s.time.Format(time.RFC3339), "org.opencontainers.image.licenses": "Apache-2.0",
	}
	if s.url != "" {
		labels["org.opencontainers.image.url"], labels["org.opencontainers.image.source"] = s.url, s.url
	}
	return v1.Config{
		User:       fmt.Sprintf("%d:%d", imageUser, imageUser),
		Entrypoint: []string{"/rempart"},
		WorkingDir: imageData,
		Env:        []string{"PATH=/", "REMPART_LISTEN=:5300", "REMPART_PAGE_LISTEN=:8080", "REMPART_DATA_DIR=" + imageData},
		ExposedPorts: map[string]struct{}{
			"5300/udp": {}, "5300/tcp": {}, "8080/tcp": {},
		},
		Volumes: map[string]struct{}{imageData: {}},
		Labels:  labels,
		Healthcheck: &v1.HealthConfig{
			Test: []string{"CMD", "/rempart", "healthcheck"}, Interval: 30 * time.Second, Timeout: 5 * time.Second, StartPeriod: 30 * time.Second, Retries: 3,
		},
	}
}

func (t target) platform() v1.Platform {
	p := v1.Platform{OS: t.os, Architecture: t.arch}
	if t.variant != "" {
		p.Variant = "v" + t.variant
	}
	return p
}

// writeRoot writes the file system of the image.
func writeRoot(w io.Writer, program, licences []byte, at time.Time) error {
	t := tar.NewWriter(w)
	account := fmt.Sprintf("rempart:x:%d:", imageUser)
	for _, e := range []struct {
		name string
		mode fs.FileMode
		user int
		data []byte // nil: a folder
	}{
		{"etc/", 0o755, 0, nil},
		{"etc/group", 0o644, 0, []byte(account + "\n")},
		{"etc/passwd", 0o644, 0, fmt.Appendf(nil, "%s%d:Rempart:%s:/sbin/nologin\n", account, imageUser, imageData)},
		{"etc/rempart/", 0o755, 0, nil},
		{"etc/ssl/", 0o755, 0, nil},
		{"etc/ssl/certs/", 0o755, 0, nil},
		{"etc/ssl/certs/ca-certificates.crt", 0o644, 0, rootCertificates()},
		{"licences.txt", 0o644, 0, licences},
		{"rempart", 0o755, 0, program},
		{"tmp/", fs.ModeSticky | 0o777, 0, nil},
		{"var/", 0o755, 0, nil},
		{"var/lib/", 0o755, 0, nil},
		{imageData[1:] + "/", 0o700, imageUser, nil},
	} {
		h := &tar.Header{Name: e.name, Mode: int64(e.mode.Perm()), Size: int64(len(e.data)), Uid: e.user, Gid: e.user, ModTime: at, Format: tar.FormatPAX, Typeflag: tar.TypeReg}
		if e.mode&fs.ModeSticky != 0 {
			h.Mode |= 0o1000
		}
		if e.data == nil {
			h.Typeflag = tar.TypeDir
		}
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		if _, err := t.Write(e.data); err != nil {
			return err
		}
	}
	return t.Close()
}

// rootCertificates returns Mozilla's root certificates, by which the program checks publishers of lists and resolvers. Roots that Mozilla trusts with
// constraints only are left out: a file of certificates cannot express them.
func rootCertificates() []byte {
	var b bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}) // a bytes.Buffer accepts everything
		}
	}
	return b.Bytes()
}

// writeImages writes a file for each image, and one with the images of all targets.
func writeImages(out *output, s *source, images []platformImage, work string) error {
	if len(images) == 0 {
		return nil
	}
	named := layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": s.version, "io.containerd.image.name": imageName + ":" + s.version})
	var all v1.ImageIndex = mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, i := range images {
		platform := i.target.platform()
		all = mutate.AppendManifests(all, mutate.IndexAddendum{Add: i.image, Descriptor: v1.Descriptor{Platform: &platform}})
		dir, err := layout.Write(filepath.Join(work, i.target.name(), "image"), empty.Index)
		if err != nil {
			return err
		}
		if err := dir.AppendImage(i.image, named, layout.WithPlatform(platform)); err != nil {
			return err
		}
		if err := writeDockerManifest(dir, i.image, s.version); err != nil {
			return err
		}
		if err := writeLayout(out, fmt.Sprintf("rempart_%s_%s.image.tar", s.version, i.target.name()), dir, s.time); err != nil {
			return err
		}
	}
	dir, err := layout.Write(filepath.Join(work, "images"), empty.Index)
	if err != nil {
		return err
	}
	if err := dir.AppendIndex(all, named); err != nil {
		return err
	}
	return writeLayout(out, fmt.Sprintf("rempart_%s.image.tar", s.version), dir, s.time)
}

// writeDockerManifest adds the file by which "docker load" of every version finds the image in the layout.
func writeDockerManifest(dir layout.Path, image v1.Image, version string) error {
	manifest, err := image.Manifest()
	if err != nil {
		return err
	}
	blob := func(h v1.Hash) string { return "blobs/" + h.Algorithm + "/" + h.Hex }
	var layers []string
	for _, l := range manifest.Layers {
		layers = append(layers, blob(l.Digest))
	}
	text, err := json.Marshal([]map[string]any{{"Config": blob(manifest.Config.Digest), "RepoTags": []string{imageName + ":" + version}, "Layers": layers}})
	if err != nil {
		return err
	}
	return dir.WriteFile("manifest.json", text, 0o644)
}

// writeLayout writes the folder of an image layout as a tar file.
func writeLayout(out *output, name string, dir layout.Path, at time.Time) error {
	var entries []file
	err := filepath.WalkDir(string(dir), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(string(dir), path)
		entries = append(entries, file{name: filepath.ToSlash(rel), data: data})
		return err
	})
	if err != nil {
		return err
	}
	return out.create(name, func(w io.Writer) error { return writeTar(w, entries, at) })
}
