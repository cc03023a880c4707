package oci

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vrafs/internal/testregistry"
)

// TestCredentialsComeFromWhereDockerAndPodmanKeepThem: the place that is named more
// explicitly wins, the key that is more precise, and a helper is asked.
func TestCredentialsComeFromWhereDockerAndPodmanKeepThem(t *testing.T) {
	home := t.TempDir()
	file := func(name, user, key string) string {
		path := filepath.Join(home, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o700))
		text := fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, key, testregistry.Auth(user, "secret"))
		must(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	for _, name := range []string{"REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"} {
		t.Setenv(name, "")
	}
	t.Setenv("HOME", home)
	ref := parse(t, "r.example:5000/team/app:1")
	check := func(a Access, want string) {
		t.Helper()
		c, err := a.Credential(ref)
		must(t, err)
		if c.Username != want {
			t.Errorf("user %q, want %q", c.Username, want)
		}
	}
	check(Access{}, "")
	file(".config/containers/auth.json", "podman", "r.example:5000/team")
	check(Access{}, "podman")
	file(".docker/config.json", "docker", "r.example:5000")
	check(Access{}, "docker")
	t.Setenv("DOCKER_CONFIG", filepath.Dir(file("elsewhere/config.json", "elsewhere", "r.example:5000")))
	check(Access{}, "elsewhere")
	t.Setenv("REGISTRY_AUTH_FILE", file("named.json", "named", "r.example:5000/team/app"))
	check(Access{}, "named")
	check(Access{AuthFile: file("option.json", "option", "r.example:5000")}, "option")
	check(Access{Username: "given", AuthFile: "/nowhere"}, "given")

	bin := filepath.Join(home, "bin")
	must(t, os.Mkdir(bin, 0o755))
	helper := "#!/bin/sh\nread host\necho '{\"ServerURL\":\"'$host'\",\"Username\":\"helped\",\"Secret\":\"secret\"}'\n"
	must(t, os.WriteFile(filepath.Join(bin, "docker-credential-test"), []byte(helper), 0o755))
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	path := filepath.Join(home, "helper.json")
	must(t, os.WriteFile(path, []byte(`{"credHelpers":{"r.example:5000":"test"}}`), 0o600))
	check(Access{AuthFile: path}, "helped")

	must(t, os.WriteFile(path, []byte(`{"auths":{"r.example:5000":{"auth":"secret!"}}}`), 0o600))
	if _, err := (&Access{AuthFile: path}).Credential(ref); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("a damaged file: %v", err)
	}
	if _, err := (&Access{AuthFile: "/nowhere"}).Credential(ref); err == nil {
		t.Error("a missing file that was named is no error")
	}
}
