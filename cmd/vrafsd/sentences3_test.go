package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// What nydusd.md section 2 says of file systems of type passthrough_fs.

// shared mounts a directory and takes it away again; /used is an image beside it.
func (s *stage) shared() []sentence {
	dir := s.t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("shared"), 0o644); err != nil {
		s.t.Fatal(err)
	}
	link := filepath.Join(s.t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		s.t.Fatal(err)
	}
	cmd := func(source, fsType, config, more string) string {
		return fmt.Sprintf(`{"source":%q,"fs_type":%q,"config":%q%s}`, source, fsType, config, more)
	}
	body := cmd(dir, "passthrough_fs", "", "")
	const used = `"/used":\{"backend_type":"Rafs".*\}`
	const one = `"/shared":\{"backend_type":"PassthroughFs","mountpoint":"/shared","mounted_time":\[20\d\d,\d{1,3},\d{1,2},\d{1,2},\d{1,2},\d{1,9},0,0,0\],"config":null\}`
	const noRafs = `FsBackendInfo(Metrics(Daemon(Other("`
	post := func(says, place, body string, status int, w want) sentence {
		return sentence{says: "2.5 " + says, method: "POST", target: at(place), body: body, status: status, want: w}
	}
	put := func(says, place, body string, w want) sentence {
		return sentence{says: "2.5 " + says, method: "PUT", target: at(place), body: body, status: 500, want: w}
	}
	del := func(says, place string, status int, w want) sentence {
		return sentence{says: "2.5 " + says, method: "DELETE", target: at(place), status: status, want: w}
	}
	get := func(says, target string, status int, w want) sentence {
		return sentence{says: says, method: "GET", target: target, status: status, want: w}
	}
	refused := refusal("Mount(MountFilesystem(Other(", "share directory: ")
	list := []sentence{
		post("share: source is a directory, config is empty", "/shared", body, 204, nil),
		get("2.2 share: its type, no configuration", "/v1/daemon", 200, looks(`.*"backend_collection":\{`+one+`,`+used+`\}\}`)),
		post("share: place in use", "/shared", body, 500, refuses(inUse)),
		post("share: place in use by an image", "/used", body, 500, refuses(inUse)),
		post("share: an image where it is", "/shared", s.im.mountBody(""), 500, refuses(inUse)),
		get("2.6 share: no super block", "/v1/daemon/backend?mountpoint=/shared", 500, refusal(noRafs, "no rafs filesystem is mounted at /shared")),
	}
	for _, kind := range [][2]string{{"", "GlobalMetrics"}, {"/files", "FsFilesMetrics"}, {"/pattern", "Pattern"}, {"/backend", "BackendMetrics"}, {"/blobcache", "BlobcacheMetrics"}} {
		list = append(list, get("2.7 share: no counter"+kind[0], "/v1/metrics"+kind[0]+"?id=/shared", 404, refuses(kind[1]+"(Metrics(Stats(NoCounter)))")))
	}
	list = append(list,
		put("share: remount is for images", "/shared", body, refusal("Mount(MountFilesystem(Other(", "/shared is not a rafs filesystem")),
		put("share: remount is for images, to one", "/shared", s.im.mountBody(""), refusal("Mount(MountFilesystem(Other(", "/shared is not a rafs filesystem")),
		put("share: remount of an image to one", "/used", body, refusal("Mount(MountFilesystem(Other(", "only a rafs filesystem can replace that at /used")),
		put("share: remount of nothing", "/n", body, refuses(unknown)),
		get("2.5 share: remounts leave both", "/v1/daemon", 200, looks(`.*"backend_collection":\{`+one+`,`+used+`\}\}`)),

		get("2.7 share: the image is the only counter", "/v1/metrics", 200, has(`"id":"/used"`)),
		get("2.7 share: the image is the only back end", "/v1/metrics/backend", 200, has(`"backend_type":"localfs"`)),
		get("2.7 share: the image's is the only cache", "/v1/metrics/blobcache", 200, has(`"store_path"`)),
		get("2.7 share: Prometheus, ours", "/metrics", 200, has(`vrafs_mounted_seconds{mountpoint="/shared"}`)),

		sentence{says: "2.8 share: values are stored", method: "PUT", target: "/v1/config?id=/shared", body: `{"registry_auth":"dTpw"}`, status: 204},
		get("2.8 share: values are stored", "/v1/config?id=/shared", 200, exactly(`{"registry_auth":"dTpw"}`)),

		del("share: unmount", "/shared", 204, nil),
		del("share: unmount, again", "/shared", 500, refuses(unknown)),
		get("2.2 share: unmounted", "/v1/daemon", 200, looks(`.*"backend_collection":\{`+used+`\}\}`)),
		post("share: an image at its place at once", "/shared", s.im.mountBody(""), 204, nil),
		del("share: an image at its place at once", "/shared", 204, nil),
		post("share: at an image's place at once", "/shared", body, 204, nil),
		del("share: at an image's place at once", "/shared", 204, nil),

		post("share: type passthrough", "/shared/1", cmd(dir, "passthrough", "", ""), 204, nil),
		post("share: type passthroughfs, below another", "/shared/1/2", cmd(dir, "passthroughfs", "", ""), 204, nil),
		post("share: source is a link to a directory", "/shared/3", cmd(link, "passthrough_fs", "", ""), 204, nil),
		post("share: nothing is read from config", "/shared/4", cmd(dir, "passthrough_fs", "{", ""), 204, nil),
		post("share: nothing is prefetched, unknown keys are ignored", "/shared/5", cmd(dir, "passthrough_fs", "", `,"prefetch_files":["/f"],"new":1`), 204, nil),
		del("share: the one below first", "/shared/1/2", 204, nil),
		del("share: unmount", "/shared/1", 204, nil),
		del("share: unmount", "/shared/3", 204, nil),
		del("share: unmount", "/shared/4", 204, nil),
		del("share: unmount", "/shared/5", 204, nil),

		post("share: no such source", "/n", cmd("/none", "passthrough_fs", "", ""), 500, refused),
		post("share: source is a file", "/n", cmd(filepath.Join(dir, "f"), "passthrough_fs", "", ""), 500, refused),
		post("share: source is empty", "/n", cmd("", "passthrough_fs", "", ""), 500, refused),
		post("share: source with a NUL", "/n", `{"source":"/tmp\u0000x","fs_type":"passthrough_fs","config":""}`, 500, refused),
		post("share: config is required", "/n", fmt.Sprintf(`{"source":%q,"fs_type":"passthrough_fs"}`, dir), 400, refusal("ParseBody(Error(\"missing field `config`\"")),
		post("share: source is required", "/n", `{"fs_type":"passthrough_fs","config":""}`, 400, refusal("ParseBody(Error(\"missing field `source`\"")),
		post("share: config is a string", "/n", fmt.Sprintf(`{"source":%q,"fs_type":"passthrough_fs","config":{}}`, dir), 400, refusal("ParseBody(Error(")),
		post("share: every prefetch file absolute", "/n", cmd(dir, "passthrough_fs", "", `,"prefetch_files":["f"]`), 500,
			refuses(`Mount(MountFilesystem(Other("invalid prefetch file list")))`)),
		post("share: place not absolute", "n", body, 500, refusal("Mount(MountFilesystem(Other(", "is not an absolute path")),
		get("2.2 share: nothing is left", "/v1/daemon", 200, looks(`.*"backend_collection":\{`+used+`\}\}`)),
	)
	for i := range list {
		list[i].at = trees
	}
	return append(append(list, s.sharedShows(dir, body)...),
		sentence{says: "2.1 unsupported: file systems in a singleton: share", at: noTree, method: "POST", target: at("/a"), body: body, status: 501,
			want: refuses("Mount(MountFilesystem(Unsupported))")})
}

// sharedShows is what a mount of this host shows of a shared directory.
func (s *stage) sharedShows(dir, body string) []sentence {
	inside := func(name string) string { return filepath.Join(s.h.dir, "shared", name) }
	reader := sentence{says: "2.5 share: a reader", at: "fuse", method: "GET", target: "/v1/daemon", status: 200, want: has(`"/shared":{`)}
	reader.beside = func() error {
		if text, err := os.ReadFile(inside("f")); err != nil || string(text) != "shared" {
			return fmt.Errorf("%q, %w", text, err)
		}
		if err := os.WriteFile(inside("new"), nil, 0o644); !errors.Is(err, unix.EROFS) {
			return fmt.Errorf("written without --writable: %w", err)
		}
		return os.WriteFile(filepath.Join(dir, "later"), []byte("of the host"), 0o644)
	}
	again := sentence{says: "2.5 share: what the host changes shows", at: "fuse", method: "GET", target: "/v1/metrics", status: 200, want: has(`"id":"/used"`)}
	again.beside = func() error {
		if text, err := os.ReadFile(inside("later")); err != nil || string(text) != "of the host" {
			return fmt.Errorf("%q, %w", text, err)
		}
		return nil
	}
	gone := sentence{says: "2.5 share: unmounted, nothing of it shows", at: "fuse", method: "GET", target: "/v1/daemon", status: 200, want: has(`"/used":{`)}
	gone.beside = func() error {
		if _, err := os.ReadFile(inside("f")); !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("got %w", err)
		}
		return nil
	}
	return []sentence{
		{says: "2.5 share", at: "fuse", method: "POST", target: at("/shared"), body: body, status: 204},
		reader, again,
		{says: "2.5 share: unmount", at: "fuse", method: "DELETE", target: at("/shared"), status: 204},
		gone,
	}
}
