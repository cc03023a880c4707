package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"vrafs/internal/testregistry"
)

// registryImage is an image of one file whose blobs are in a registry.
func registryImage(t *testing.T, s *testregistry.Server, repo, text string) (boot string) {
	t.Helper()
	src, dir := t.TempDir(), t.TempDir()
	must(t, os.WriteFile(filepath.Join(src, "file"), []byte(text), 0o644))
	boot, blobs := filepath.Join(dir, "image.boot"), filepath.Join(dir, "blobs")
	must(t, os.Mkdir(blobs, 0o755))
	runQuietly(t, "", "create", "-l", "warn", "-B", boot, "-D", blobs, src)
	entries, err := os.ReadDir(blobs)
	must(t, err)
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(blobs, e.Name()))
		must(t, err)
		s.Push(t, repo, data)
	}
	return boot
}

// TestLoginsOfDockerAreUsed when a registry asks for one: those in its file, and those that
// a helper keeps.
func TestLoginsOfDockerAreUsed(t *testing.T) {
	const repo, text, password = "library/image", "behind a login\n", "hunter2hunter2"
	s := testregistry.Start(t, testregistry.Options{User: "user", Password: password})
	boot := registryImage(t, s, repo, text)
	programs := t.TempDir()
	must(t, os.WriteFile(filepath.Join(programs, "docker-credential-test"),
		[]byte("#!/bin/sh\nread host; [ \"$host\" = "+s.Host+" ] && echo '{\"Username\":\"user\",\"Secret\":\""+password+"\"}'\n"), 0o755))
	t.Setenv("PATH", programs+":"+os.Getenv("PATH"))
	section := fmt.Sprintf(`{"scheme":"http","host":%q,"repo":%q}`, s.Host, repo)
	for _, tt := range []struct {
		name, file string
		ok         bool
		says       string
	}{
		{"file", fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, s.Host, testregistry.Auth("user", password)), true, ""},
		{"helper", fmt.Sprintf(`{"credHelpers":{%q:"test"}}`, s.Host), true, ""},
		{"another", `{"auths":{"other.example":{"auth":"dTpw"}}}`, false, "login"},
		{"wrong", fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, s.Host, testregistry.Auth("user", "wrong"+password)), false, "login"},
		{"identity", fmt.Sprintf(`{"auths":{%q:{"auth":%q,"identitytoken":%q}}}`, s.Host, testregistry.Auth("user", ""), password), false, "identity token"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			must(t, os.WriteFile(filepath.Join(dir, "config.json"), []byte(tt.file), 0o600))
			t.Setenv("DOCKER_CONFIG", dir)
			tar := filepath.Join(dir, "out.tar")
			out, err := nydusImageCommand(t.Context(), "unpack", "-l", "warn", "-B", boot, "--output", tar, "--backend-type", "registry", "--backend-config", section).CombinedOutput()
			got, _ := os.ReadFile(tar)
			if (err == nil) != tt.ok || tt.ok && !bytes.Contains(got, []byte(text)) || bytes.Contains(out, []byte(password)) {
				t.Errorf("%v, %d bytes: %s", err, len(got), out)
			}
			if !bytes.Contains(out, []byte(tt.says)) {
				t.Errorf("no remedy in %s", out)
			}
		})
	}
}

// TestBlobsAreReadOutOfARegistry by the commands that read data, as nydus-image does
// with --backend-type, and by configuration.
func TestBlobsAreReadOutOfARegistry(t *testing.T) {
	const repo, text = "library/image", "out of a registry\n"
	s := testregistry.Start(t, testregistry.Options{})
	boot, dir := registryImage(t, s, repo, text), t.TempDir()
	section := fmt.Sprintf(`{"scheme":"http","host":%q,"repo":%q}`, s.Host, repo)
	config := filepath.Join(dir, "config.json")
	must(t, os.WriteFile(config, []byte(`{"version":2,"backend":{"type":"registry","registry":`+section+`}}`), 0o644))

	tar := filepath.Join(dir, "out.tar")
	runQuietly(t, "", "unpack", "-l", "warn", "-B", boot, "--output", tar, "--backend-type", "registry", "--backend-config", section)
	if got, err := os.ReadFile(tar); err != nil || !bytes.Contains(got, []byte(text)) {
		t.Errorf("unpacked: %d bytes without the file's, %v", len(got), err)
	}
	out, err := nydusImageCommand(t.Context(), "check", "-B", boot, "-C", config).CombinedOutput()
	if err != nil {
		t.Errorf("check: %v: %s", err, out)
	}
}
