package main

import (
	"context"
	"errors"
	"strings"

	"vrafs/internal/cli"
	"vrafs/oci"
)

// access are the options that say how registries are reached: one set, or one for each
// side of a copy. They are called as skopeo and crane call them.
type access struct {
	both, from, to side
}

// A side is the options of one side.
type side struct {
	insecure, plainHTTP         bool
	verify                      string
	ca, certs, auth, creds, tok string
}

// sideOptions are the options of one side, whose names begin with prefix.
func (s *side) options(prefix, which string) []*cli.Option {
	return []*cli.Option{
		{Long: prefix + "insecure", Aliases: nydusify(prefix, "insecure"), Help: "Take any certificate" + which + ", and plain HTTP", Set: cli.Flag(&s.insecure)},
		{Long: prefix + "plain-http", Help: "Speak HTTP without TLS" + which, Set: cli.Flag(&s.plainHTTP)},
		{Long: prefix + "tls-verify", Value: "bool", Help: "false is the same as --" + prefix + "insecure", Choices: []string{"true", "false"}, Hidden: prefix != "", Set: cli.Str(&s.verify)},
		{Long: prefix + "ca-file", Value: "file", Help: "Certificates (PEM) to trust" + which, Hidden: prefix != "", Set: cli.Str(&s.ca)},
		{Long: prefix + "cert-dir", Value: "dir", Help: "Directory with *.crt to trust, and *.cert and *.key to show" + which, Hidden: prefix != "", Set: cli.Str(&s.certs)},
		{Long: prefix + "authfile", Value: "file", Help: "File with credentials as docker login writes it" + which, Hidden: prefix != "", Set: cli.Str(&s.auth)},
		{Long: prefix + "creds", Value: "user:password", Help: "Credentials" + which, Set: cli.Str(&s.creds)},
		{Long: prefix + "registry-token", Value: "token", Help: "Bearer token" + which, Hidden: prefix != "", Set: cli.Str(&s.tok)},
	}
}

// nydusify is what nydusify calls an option of one side.
func nydusify(prefix, name string) []string {
	switch prefix {
	case "src-":
		return []string{"source-" + name}
	case "dest-":
		return []string{"target-" + name}
	}
	return nil
}

// options are those of commands that reach one registry.
func (a *access) options() []*cli.Option { return a.both.options("", "") }

// sides are those of commands that reach two.
func (a *access) sides() []*cli.Option {
	list := a.both.options("", "")
	list = append(list, a.from.options("src-", " of the source")...)
	return append(list, a.to.options("dest-", " of the destination")...)
}

// merge is what s says, and what b says where s says nothing.
func (s *side) merge(b *side) oci.Access {
	a := oci.Access{
		PlainHTTP: s.plainHTTP || b.plainHTTP,
		CAFile:    first(s.ca, b.ca), CertDir: first(s.certs, b.certs), AuthFile: first(s.auth, b.auth), Token: first(s.tok, b.tok),
		UserAgent: "vrafs/" + cli.ThisBuild().Version,
	}
	verify := first(s.verify, b.verify)
	a.Insecure = s.insecure || b.insecure || verify == "false"
	a.Username, a.Password, _ = strings.Cut(first(s.creds, b.creds), ":")
	return a
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func (a *access) one() oci.Access { return (&side{}).merge(&a.both) }

func (a *access) source() oci.Access { return a.from.merge(&a.both) }

func (a *access) dest() oci.Access { return a.to.merge(&a.both) }

// refHelp is the help of an argument that is a reference.
const refHelp = "[docker://]HOST/REPOSITORY:TAG, oci:DIR:TAG, oci-archive:FILE:TAG or docker-archive:FILE:NAME"

// setRef stores a reference.
func setRef(r *oci.Ref) func(string) error {
	return func(v string) (err error) {
		*r, err = oci.Parse(v)
		return err
	}
}

// setInt stores a number from low to high.
func setInt(p *int, low, high uint64) func(string) error {
	return func(v string) error {
		var n uint
		err := cli.Uint(&n, low, high)(v)
		*p = int(n)
		return err
	}
}

// setPlatforms stores a list of platforms; "all" stands for none in particular.
func setPlatforms(list *[]oci.Platform, all *bool) func(string) error {
	return func(v string) error {
		for s := range strings.SplitSeq(v, ",") {
			if s == "all" {
				*all = true
				continue
			}
			p, err := oci.ParsePlatform(strings.TrimSpace(s))
			if err != nil {
				return err
			}
			*list = append(*list, p)
		}
		return nil
	}
}

// adviseOCI tells what to do about errors of images and registries.
func adviseOCI(err error) error {
	switch {
	case errors.Is(err, context.Canceled):
	case errors.Is(err, oci.ErrDenied):
		return cli.Hint(err, "log in with docker login or podman login, or give --creds, --authfile or REGISTRY_AUTH_FILE")
	case errors.Is(err, oci.ErrPlatform):
		return cli.Hint(err, "choose one of them with --platform")
	case errors.Is(err, oci.ErrNotFound):
		return cli.Hint(err, "check the reference: host, repository, and tag or digest")
	case errors.Is(err, oci.ErrRef):
		return cli.Hint(err, "references are %s", refHelp)
	case err != nil && (strings.Contains(err.Error(), "server gave HTTP response to HTTPS client") || strings.Contains(err.Error(), "first record does not look like a TLS handshake")):
		return cli.Hint(err, "the registry has no TLS: give --plain-http")
	case err != nil && strings.Contains(err.Error(), "x509: "):
		return cli.Hint(err, "give the registry's certificate with --ca-file or --cert-dir, or --insecure to take any")
	}
	return err
}
