package oci

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/opencontainers/go-digest"
)

// A Kind is a kind of place where images are kept.
type Kind uint8

// The kinds of places, with the prefix that chooses them in a reference.
const (
	KindRegistry Kind = iota // docker://, or no prefix
	KindLayout               // oci: a directory
	KindArchive              // oci-archive: a tar of such a directory, as containerd exports it
	KindDocker               // docker-archive: a tar as docker save writes it
)

// kindPrefixes is in the order of the constants.
var kindPrefixes = [...]string{"docker://", "oci:", "oci-archive:", "docker-archive:"}

// String is the prefix of references of this kind.
func (k Kind) String() string { return kindPrefixes[k] }

// A Ref names one image, or a set of images for several platforms. The zero value
// names nothing; Parse makes one.
type Ref struct {
	Kind Kind
	// Path is the directory or file of a layout or an archive.
	Path string
	// Registry is host and port, Repo the repository inside, of a registry.
	Registry, Repo string
	// Tag and Digest choose the image. At most one is set; in a layout or an archive
	// both may be empty, which means the only image there.
	Tag    string
	Digest digest.Digest
}

// Parse reads a reference:
//
//	[docker://][HOST[:PORT]/]REPOSITORY[:TAG|@DIGEST]
//	oci:DIRECTORY[:TAG|@DIGEST]
//	oci-archive:FILE[:TAG|@DIGEST]
//	docker-archive:FILE[:REPOSITORY:TAG|@DIGEST]
//
// Without a host it means Docker Hub, without a tag in a registry "latest". A path
// ends at its first colon. Errors are of class ErrRef.
func Parse(s string) (Ref, error) {
	for k := KindLayout; int(k) < len(kindPrefixes); k++ {
		if rest, ok := strings.CutPrefix(s, kindPrefixes[k]); ok {
			return parsePath(k, rest)
		}
	}
	return parseRegistry(strings.TrimPrefix(s, kindPrefixes[KindRegistry]))
}

func parseRegistry(s string) (Ref, error) {
	n, err := name.ParseReference(s, name.WeakValidation)
	if err != nil {
		return Ref{}, fmt.Errorf("%w %.200q: %w", ErrRef, s, err)
	}
	r := Ref{Kind: KindRegistry, Registry: n.Context().RegistryStr(), Repo: n.Context().RepositoryStr()}
	if d, ok := n.(name.Digest); ok {
		r.Digest, err = parseDigest(d.DigestStr())
		return r, err
	}
	r.Tag = n.Identifier()
	return r, nil
}

func parsePath(k Kind, s string) (Ref, error) {
	r := Ref{Kind: k}
	rest := s
	if at := strings.LastIndex(s, "@"); at >= 0 && strings.Contains(s[at:], ":") {
		d, err := parseDigest(s[at+1:])
		if err != nil {
			return Ref{}, fmt.Errorf("%w %.200q: %w", ErrRef, s, err)
		}
		rest, r.Digest = s[:at], d
	}
	path, tag, _ := strings.Cut(rest, ":")
	if path == "" {
		return Ref{}, fmt.Errorf("%w %.200q: no path", ErrRef, k.String()+s)
	}
	if tag != "" && r.Digest != "" {
		return Ref{}, fmt.Errorf("%w %.200q: a tag and a digest", ErrRef, k.String()+s)
	}
	r.Path, r.Tag = filepath.Clean(path), tag
	return r, nil
}

func parseDigest(s string) (digest.Digest, error) {
	d, err := digest.Parse(s)
	if err == nil && d.Algorithm() != digest.SHA256 {
		err = fmt.Errorf("algorithm %s is not supported, only sha256 is", d.Algorithm())
	}
	if err != nil {
		return "", fmt.Errorf("digest %.100q: %w", s, err)
	}
	return d, nil
}

// String is the reference in the form that Parse reads.
func (r Ref) String() string {
	s := r.Registry + "/" + r.Repo
	if r.Kind != KindRegistry {
		s = r.Kind.String() + r.Path
	}
	switch {
	case r.Digest != "":
		s += "@" + r.Digest.String()
	case r.Tag != "":
		s += ":" + r.Tag
	}
	return s
}

// Place is the reference without tag and digest.
func (r Ref) Place() Ref {
	r.Tag, r.Digest = "", ""
	return r
}

// WithDigest is the image with this digest in the same place.
func (r Ref) WithDigest(d digest.Digest) Ref {
	r.Tag, r.Digest = "", d
	return r
}

// WithTag is the image with this tag in the same place.
func (r Ref) WithTag(tag string) Ref {
	r.Tag, r.Digest = tag, ""
	return r
}

// IsRef reports whether s has the form of a reference with a prefix, or of one with
// a tag or a digest: what can hardly be meant as the path of a file.
func IsRef(s string) bool {
	for _, p := range kindPrefixes {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	if strings.HasPrefix(s, "/") || strings.HasPrefix(s, ".") {
		return false
	}
	last := s[strings.LastIndexByte(s, '/')+1:]
	if !strings.ContainsAny(last, ":@") {
		return false
	}
	_, err := Parse(s)
	return err == nil
}
