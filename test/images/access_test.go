package images

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vrafs/internal/testenv"
	"vrafs/internal/testregistry"
	"vrafs/oci/ocitest"
)

// account is who the registries of these tests let in; the token server gives it what is
// below its name.
const (
	account = "user"
	secret  = "hunter2hunter2"
)

// lockedRegistries ask for credentials, each in a way of its own.
var lockedRegistries = []struct {
	name string
	o    func(t *testing.T) testregistry.Options
}{
	{"password", func(*testing.T) testregistry.Options {
		return testregistry.Options{User: account, Password: secret}
	}},
	{"tls_password", func(*testing.T) testregistry.Options {
		return testregistry.Options{TLS: true, User: account, Password: secret}
	}},
	{"token", func(t *testing.T) testregistry.Options {
		return testregistry.Options{Tokens: testregistry.StartTokenServer(t, testregistry.TokenServerOptions{User: account, Password: secret})}
	}},
	{"tls_token", func(t *testing.T) testregistry.Options {
		return testregistry.Options{TLS: true, Tokens: testregistry.StartTokenServer(t, testregistry.TokenServerOptions{User: account, Password: secret, TLS: true})}
	}},
}

// login lets the user's commands find this password where docker login would have put it:
// in the file itself, or in a helper that the file names.
func (u *user) login(host, password string, helper bool) {
	u.t.Helper()
	if helper {
		u.credentials(fmt.Sprintf(`{"credHelpers":{%q:"test"}}`, host), host, account, password)
		return
	}
	u.credentials(fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, host, testregistry.Auth(account, password)), host, "nobody", "nothing")
}

// credentials gives the user's commands a file of docker login, and a helper called test
// that keeps a name and a secret of the host.
func (u *user) credentials(file, host, name, kept string) {
	u.t.Helper()
	dir := u.t.TempDir()
	program := fmt.Sprintf("#!/bin/sh\nread host; [ \"$host\" = %s ] && echo '{\"Username\":%q,\"Secret\":%q}'\n", host, name, kept)
	must(u.t, os.WriteFile(filepath.Join(dir, "docker-credential-test"), []byte(program), 0o700))
	must(u.t, os.WriteFile(filepath.Join(dir, "config.json"), []byte(file), 0o600))
	u.wrap = []string{"env", "--unset=REGISTRY_AUTH_FILE", "DOCKER_CONFIG=" + dir, "PATH=" + dir + ":" + os.Getenv("PATH")}
}

// oneFile is a layout with an image of one file.
func oneFile(t *testing.T, text string) (ref string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "layout")
	ocitest.Layout(t, dir, "1", ocitest.NewLayer(t, ocitest.Tar(t, ocitest.File("file", text)), ocitest.Gzip))
	return "oci:" + dir + ":1"
}

// TestLoginsOpenRegistriesToEveryCommand, by a password or by tokens, over TLS with a
// certificate of their own. A wrong password is refused with the reference, the answer and
// a remedy, and shown nowhere.
func TestLoginsOpenRegistriesToEveryCommand(t *testing.T) {
	testenv.Need(t, testenv.Root, testenv.FUSE, testenv.Registry, testenv.TokenServer)
	const text = "behind a login\n"
	src := oneFile(t, text)
	for _, reg := range lockedRegistries {
		for _, helper := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/helper=%v", reg.name, helper), func(t *testing.T) {
				s, u := testregistry.Start(t, reg.o(t)), newUser(t)
				var access []string
				if s.CAFile != "" {
					access = []string{"--ca-file", s.CAFile}
				}
				with := func(args ...string) []string { return append(args, access...) }
				ref := func(name string) string { return s.Host + "/" + account + "/" + name + ":1" }

				u.login(s.Host, secret, helper)
				u.vrafs(with("push", "-q", src, ref("oci"))...)
				u.vrafs(with("convert", "-q", "--no-cache", ref("oci"), ref("nydus"))...)
				u.vrafs(with("copy", "-q", ref("nydus"), ref("copy"))...)
				u.vrafs(with("pull", "-q", ref("nydus"), "oci:"+t.TempDir()+"/l:1")...)
				if out := u.vrafs(with("check", "--source", ref("oci"), ref("copy"))...); !strings.Contains(out, "1 entries of 1 layers") {
					t.Errorf("check said %q", out)
				}
				dir, socket := u.mount(ref("copy"), access...)
				if got, err := os.ReadFile(filepath.Join(dir, "file")); err != nil || string(got) != text {
					t.Errorf("mounted file: %q, %v", got, err)
				}
				u.noSecrets(secret, testregistry.Auth(account, secret))
				u.umount(dir)
				u.leftNothing(dir, socket)

				const wrong = "not" + secret
				u.login(s.Host, wrong, helper)
				for _, args := range [][]string{
					{"push", src, ref("new")},
					{"convert", "--no-cache", src, ref("new")},
					{"convert", "--no-cache", ref("oci"), "oci:" + t.TempDir() + "/l:1"},
					{"copy", ref("nydus"), ref("new")},
					{"pull", ref("nydus"), "oci:" + t.TempDir() + "/l:1"},
					{"check", ref("nydus")},
					{"inspect", ref("nydus")},
					{"du", ref("nydus")},
					{"mount", "--state-dir", u.state, "--cache-dir", u.cache, ref("nydus"), dir},
				} {
					out := u.refused(with(args...), s.Host+"/"+account+"/", "401", "docker login")
					if strings.Contains(out, secret) || strings.Contains(out, testregistry.Auth(account, wrong)) {
						t.Errorf("%s shows the password: %s", args[0], out)
					}
				}
				if len(access) > 0 {
					u.refused([]string{"pull", ref("nydus"), "oci:" + t.TempDir() + "/l:1"}, s.Host+"/"+account+"/nydus", "x509", "--ca-file")
				}
			})
		}
	}
}

// TestIdentityTokensOpenRegistriesToCommands: docker login keeps such a token where the
// registry gives one, as those of clouds do. The daemon can't use it, which mount says.
func TestIdentityTokensOpenRegistriesToCommands(t *testing.T) {
	testenv.Need(t, testenv.Registry, testenv.TokenServer)
	src := oneFile(t, "behind a token\n")
	tokens := testregistry.StartTokenServer(t, testregistry.TokenServerOptions{User: account, Password: secret, TLS: true})
	s := testregistry.Start(t, testregistry.Options{TLS: true, Tokens: tokens})
	identity := tokens.IdentityToken(t)
	ref := s.Host + "/" + account + "/image:"
	inFile := func(token string) string {
		return fmt.Sprintf(`{"auths":{%q:{"auth":%q,"identitytoken":%q}}}`, s.Host, testregistry.Auth(account, ""), token)
	}
	for name, login := range map[string]func(u *user){
		"file": func(u *user) { u.credentials(inFile(identity), s.Host, "nobody", "nothing") },
		"helper": func(u *user) {
			u.credentials(fmt.Sprintf(`{"credHelpers":{%q:"test"}}`, s.Host), s.Host, "<token>", identity)
		},
	} {
		t.Run(name, func(t *testing.T) {
			u := newUser(t)
			login(u)
			u.vrafs("push", "-q", "--ca-file", s.CAFile, src, ref+name)
			u.vrafs("convert", "-q", "--no-cache", "--ca-file", s.CAFile, ref+name, ref+name+"-nydus")
			if out := u.vrafs("check", "--ca-file", s.CAFile, "--source", ref+name, ref+name+"-nydus"); !strings.Contains(out, "1 entries of 1 layers") {
				t.Errorf("check said %q", out)
			}
			mount := []string{"mount", "--state-dir", u.state, "--cache-dir", u.cache, "--ca-file", s.CAFile, ref + name + "-nydus", t.TempDir()}
			if out := u.refused(mount, ref, "identity token", "log in with a password"); strings.Contains(out, identity) {
				t.Errorf("the token is shown: %s", out)
			}
			u.credentials(inFile("x"+identity), s.Host, "nobody", "nothing")
			if out := u.refused([]string{"check", "--ca-file", s.CAFile, ref + name}, s.Host+"/"+account+"/image", "401", "docker login"); strings.Contains(out, identity) {
				t.Errorf("the token is shown: %s", out)
			}
		})
	}
}
