package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Section 2.3 and sections 2.5 to 2.9 of nydusd.md.

const (
	inUse   = `Mount(MountFilesystem(Other("object or filesystem already exists")))`
	unknown = `Mount(MountFilesystem(Other("object or filesystem doesn't exist")))`
)

// at is the target of a mount request.
func at(place string) string { return "/v1/mount?mountpoint=" + place }

// mounts are the commands of 2.5 that succeed.
func (s *stage) mounts() []sentence {
	body := s.im.mountBody("")
	toml := `version = 2
id = "t"
[backend]
type = "localfs"
[backend.localfs]
dir = "` + s.im.BlobDir + `"
[cache]
type = "filecache"
[cache.filecache]
work_dir = "` + s.im.cache + `"
`
	collection := func(want want) sentence {
		return sentence{says: "2.5 what is mounted shows", at: trees, method: "GET", target: "/v1/daemon", status: 200, want: want}
	}
	return []sentence{
		{says: "2.5 mount", at: trees, method: "POST", target: at("/used"), body: body, status: 204},
		{says: "2.5 mount at a percent-encoded place", at: trees, method: "POST", target: at("%2Frafs%2Fa+b%25%2Flowerdir"), body: body, status: 204},
		{says: "2.5 mount with a configuration in TOML", at: trees, method: "POST", target: at("/toml"), body: s.im.mountBody(toml), status: 204},
		{says: "2.5 mount with a list of files to prefetch", at: trees, method: "POST", target: at("/list"), body: s.im.mountCmd(s.im.v1(nil), map[string]any{"prefetch_files": []string{"/a", "/b"}}), status: 204},
		{says: "2.5 prefetch_files may be null, unknown keys are ignored", at: trees, method: "POST", target: at("/null"), body: s.im.mountCmd(s.im.v1(nil), map[string]any{"prefetch_files": nil, "new": 1}), status: 204},
		collection(all(has(`"/used":{`, `"/rafs/a+b%/lowerdir":{`, `"/toml":{`, `"/list":{`, `"/null":{`, `"mountpoint":"/rafs/a+b%/lowerdir"`))),
		{says: "2.5 mount over the API of an image's daemon", at: "alone", method: "POST", target: at("/more"), body: body, status: 204},
		{says: "2.5 unmount", at: trees, method: "DELETE", target: at("/rafs/a+b%25/lowerdir"), status: 204},
		{says: "2.5 the same place at once again", at: trees, method: "POST", target: at("/rafs/a+b%25/lowerdir"), body: body, status: 204},
		{says: "2.5 unmount at a percent-encoded place", at: trees, method: "DELETE", target: at("%2Frafs%2Fa%2Bb%25%2Flowerdir"), status: 204},
		{says: "2.5 unmount", at: trees, method: "DELETE", target: at("/toml"), status: 204},
		{says: "2.5 unmount", at: trees, method: "DELETE", target: at("/list"), status: 204},
		{says: "2.5 unmount", at: trees, method: "DELETE", target: at("/null"), status: 204},
		collection(looks(`.*"backend_collection":\{"/used":\{"backend_type":"Rafs".*\}\}`)),
	}
}

// mountErrors are the refusals of 2.5. None of them leaves anything at /n.
func (s *stage) mountErrors() []sentence {
	body, v2 := s.im.mountBody(""), func(backend, cache string) string {
		return s.im.mountBody(`{"version":2,"backend":` + backend + `,"cache":{"type":"filecache","filecache":{"work_dir":"` + s.im.cache + `"` + cache + `}}}`)
	}
	const only = "Mount(MountFilesystem(Other(\"invalid argument `only 'rafs' and 'passthrough_fs' are supported, but %s was specified`\")))"
	none, type1 := s.im.mountCmd(s.im.v1(nil), map[string]any{"source": "/none"}), s.im.mountCmd("", map[string]any{"fs_type": "ext4"})
	list := []sentence{
		{says: "2.5 place in use", method: "POST", target: at("/used"), body: body, status: 500, want: refuses(inUse)},
		{says: "2.5 place in use, spelled another way", method: "POST", target: at("/x/..//used/"), body: body, status: 500, want: refuses(inUse)},
		{says: "2.5 unmount of an unknown place", method: "DELETE", target: at("/n"), status: 500, want: refuses(unknown)},
		{says: "2.5 unmount of a pseudo directory", method: "DELETE", target: at("/"), status: 500, want: refuses(unknown)},
		{says: "2.5 place not absolute", method: "POST", target: at("a"), body: body, status: 500, want: refusal("Mount(MountFilesystem(Other(", "is not an absolute path")},
		{says: "2.5 place with a NUL", method: "POST", target: at("/a%00"), body: body, status: 500, want: refusal("Mount(MountFilesystem(Other(")},
		{says: "2.5 unknown type", method: "POST", target: at("/n"), body: type1, status: 500, want: refuses(fmt.Sprintf(only, "ext4"))},
		{says: "2.5 no type", method: "POST", target: at("/n"), body: `{"source":"/","config":""}`, status: 500, want: refuses(fmt.Sprintf(only, ""))},
		{says: "2.5 config is required", method: "POST", target: at("/n"), body: `{"source":"/","fs_type":"rafs"}`, status: 400, want: refusal("ParseBody(Error(\"missing field `config`\"")},
		{says: "2.5 source is required", method: "POST", target: at("/n"), body: `{"config":"","fs_type":"rafs"}`, status: 400, want: refusal("ParseBody(Error(\"missing field `source`\"")},
		{says: "2.5 config is a string", method: "POST", target: at("/n"), body: `{"source":"/","config":{}}`, status: 400, want: refusal("ParseBody(Error(")},
		{says: "2.5 prefetch_files is a list", method: "POST", target: at("/n"), body: `{"source":"/","config":"","prefetch_files":"/a"}`, status: 400, want: refusal("ParseBody(Error(")},
		{says: "2.5 every prefetch file absolute", method: "POST", target: at("/n"), body: s.im.mountCmd(s.im.v1(nil), map[string]any{"prefetch_files": []string{"x"}}), status: 500,
			want: refuses(`Mount(MountFilesystem(Other("invalid prefetch file list")))`)},
		{says: "2.5 no such bootstrap", method: "POST", target: at("/n"), body: none, status: 500, want: refusal("Mount(MountFilesystem(Other(", "/none: no such file")},
		{says: "2.5 no bootstrap in the file", method: "POST", target: at("/n"), body: s.im.mountCmd(s.im.v1(nil), map[string]any{"source": "/proc/self/exe"}), status: 500, want: refusal("no RAFS bootstrap")},
		{says: "2.5 config is a complete configuration", method: "POST", target: at("/n"), body: s.im.mountBody("{"), status: 500, want: refusal("failed to parse configuration information")},
		{says: "2.5 config of an unknown back end", method: "POST", target: at("/n"), body: v2(`{"type":"tape"}`, ""), status: 500, want: refusal("unsupported backend type")},
		{says: "2.5 config of v6 without a cache", method: "POST", target: at("/n"), body: s.im.mountBody(`{"version":2,"backend":{"type":"localfs","localfs":{"dir":"/b"}}}`), status: 500,
			want: refusal("Rafs v6 must have local blobcache configured")},
		{says: "2.5 config with an encrypted cache", method: "POST", target: at("/n"), body: v2(`{"type":"localfs","localfs":{"dir":"/b"}}`, `,"enable_encryption":true,"encryption_key":"00"`), status: 500,
			want: refusal("encrypted cache")},
		{says: "2.5 nothing of that is left", method: "GET", target: "/v1/daemon", status: 200, want: looks(`.*"backend_collection":\{"/used":\{"backend_type":"Rafs".*\}\}`)},
	}
	for i := range list {
		list[i].at = trees
	}
	return list
}

// remounts replace an image in place.
func (s *stage) remounts() []sentence {
	const cachedMode = `{"mode":"cached","device":{"id":"v5","backend":{"type":"localfs","config":{"dir":"%s"}}}}`
	v5 := s.v5.mountBody(fmt.Sprintf(cachedMode, s.v5.BlobDir))
	list := []sentence{
		{says: "2.5 remount", method: "PUT", target: at("/used"), body: s.im.mountBody(""), status: 204},
		{says: "2.5 remount: the new image shows", method: "PUT", target: at("/used"), body: s.v5.mountBody(strings.Replace(fmt.Sprintf(cachedMode, s.v5.BlobDir), "cached", "direct", 1)), status: 204},
		{says: "2.5 remount: the new image shows", method: "GET", target: "/v1/daemon/backend?mountpoint=/used", status: 200, want: has(`"version":1280,`)},
		{says: "2.5 remount of nothing", method: "PUT", target: at("/n"), body: s.im.mountBody(""), status: 500, want: refuses(unknown)},
		{says: "2.5 remount that fails", method: "PUT", target: at("/used"), body: s.im.mountBody("{"), status: 500, want: refusal("Mount(MountFilesystem(Other(")},
		{says: "2.5 remount that fails leaves the image", method: "GET", target: "/v1/daemon/backend?mountpoint=/used", status: 200, want: has(`"version":1280,`)},
		{says: "2.5 remount in mode cached", method: "POST", target: at("/cached"), body: v5, status: 204},
		{says: "2.5 remount in mode cached", method: "PUT", target: at("/cached"), body: v5, status: 501, want: refuses("Mount(MountFilesystem(Unsupported))")},
		{says: "2.5 remount in mode cached", method: "DELETE", target: at("/cached"), status: 204},
		{says: "2.5 remount", method: "PUT", target: at("/used"), body: s.im.mountBody(""), status: 204},
	}
	for i := range list {
		list[i].at = trees
	}
	return list
}

// superBlock is 2.6.
func (s *stage) superBlock() []sentence {
	return []sentence{
		{says: "2.6 super block", at: trees, method: "GET", target: "/v1/daemon/backend?mountpoint=%2Fused", status: 200, want: all(
			object(`magic version sb_size root_inode chunk_size batch_size inodes_count flags inode_table_entries inode_table_offset blob_table_size
				blob_table_offset extended_blob_table_offset extended_blob_table_entries blob_device_table_count blob_device_table_offset
				prefetch_table_offset prefetch_table_entries attr_timeout entry_timeout is_chunk_dict meta_blkaddr root_nid chunk_table_offset
				chunk_table_size`), has(`"version":1536,`, `"attr_timeout":{"secs":`, `,"nanos":0}`))},
		{says: "2.6 not mounted", at: trees, method: "GET", target: "/v1/daemon/backend?mountpoint=/n", status: 500, want: refusal(`FsBackendInfo(Metrics(Daemon(Other("`)},
	}
}

// metrics is 2.7. Each daemon has one image, /used; of two, a query without an id is
// ambiguous.
func (s *stage) metrics() []sentence {
	const eight, fifteen = `\[(\d+,){7}\d+\]`, `\[(\d+,){14}\d+\]`
	list := []sentence{
		{says: "2.7 totals", target: "/v1/metrics?id=/used", want: looks(`\{"files_account_enabled":false,"access_pattern_enabled":false,"record_latest_read_files_enabled":false,` +
			`"measure_latency":true,"id":"/used","nr_opens":\d+,"data_read":\d+,"block_count_read":` + eight + `,"fop_hits":` + fifteen + `,"fop_errors":` + fifteen +
			`,"fop_cumulative_latency_total":` + fifteen + `,"read_latency_dist":` + eight + `\}`)},
		{says: "2.7 id is optional", target: "/v1/metrics", want: has(`"id":"/used"`)},
		{says: "2.7 back end", target: "/v1/metrics/backend?id=%2Fused", want: looks(`\{"backend_type":"localfs","read_count":\d+,"read_errors":0,"read_amount_total":\d+,` +
			`"read_cumulative_latency_millis_total":\d+,"read_cumulative_latency_millis_dist":` + eight + `,"read_count_block_size_dist":` + eight +
			`,"read_latency_sizes_dist":\[(` + eight + `,){7}` + eight + `\]\}`)},
		{says: "2.7 back end without an id", target: "/v1/metrics/backend", want: has(`"backend_type":"localfs"`)},
		{says: "2.7 cache, by the id of the configuration", target: "/v1/metrics/blobcache?id=", want: all(has(`"store_path":"`+s.im.cache+`"`, `"prefetch_workers":8`), object(
			`underlying_files store_path partial_hits whole_hits total entries_count prefetch_data_amount prefetch_requests_count prefetch_workers
			prefetch_unmerged_chunks prefetch_cumulative_time_millis prefetch_begin_time_secs prefetch_begin_time_millis prefetch_end_time_secs
			prefetch_end_time_millis buffered_backend_size data_all_ready`))},
		{says: "2.7 cache without an id", target: "/v1/metrics/blobcache", want: has(`"store_path"`)},
		{says: "2.7 Prometheus, ours", target: "/metrics", want: has("# TYPE vrafs_info gauge\n", `mountpoint="/used"`)},
	}
	for i := range list {
		list[i].at, list[i].method, list[i].status = trees, "GET", 200
	}
	noCounter := func(at, says, target, tag string) {
		list = append(list, sentence{says: "2.7 " + says, at: at, method: "GET", target: "/v1/metrics" + target, status: 404, want: refuses(tag + "(Metrics(Stats(NoCounter)))")})
	}
	kinds := map[string]string{"": "GlobalMetrics", "/files": "FsFilesMetrics", "/pattern": "Pattern", "/backend": "BackendMetrics", "/blobcache": "BlobcacheMetrics"}
	for target, tag := range kinds {
		noCounter(running, "unknown id", target+"?id=/n", tag)
		noCounter(noTree, "no counter of that kind", target, tag)
	}
	noCounter(trees, "cache by the mountpoint", "/blobcache?id=/used", "BlobcacheMetrics")
	other := s.im.v1(map[string]any{"device": map[string]any{"id": "other",
		"backend": map[string]any{"type": "localfs", "config": map[string]any{"dir": s.im.BlobDir}},
		"cache":   map[string]any{"type": "blobcache", "config": map[string]any{"work_dir": s.im.cache}}}})
	list = append(list, sentence{says: "2.7 another image", at: trees, method: "POST", target: at("/other"), body: s.im.mountBody(other), status: 204})
	for target, tag := range kinds {
		noCounter(trees, "ambiguous without an id", target, tag)
	}
	return append(list,
		sentence{says: "2.7 cache, by the id of the configuration", at: trees, method: "GET", target: "/v1/metrics/blobcache?id=other", status: 200, want: has(`"store_path"`)},
		sentence{says: "2.7 another image goes", at: trees, method: "DELETE", target: at("/other"), status: 204},
		sentence{says: "2.7 nothing in flight", at: "fuse alone", method: "GET", target: "/v1/metrics/inflight", status: 204},
		sentence{says: "2.7 requests in flight, elsewhere", at: "virtiofs singleton", method: "GET", target: "/v1/metrics/inflight", status: 501,
			want: refuses("InflightMetrics(Metrics(Daemon(Unsupported)))")},
		sentence{says: "2.7 aborts, ours: nothing waits", at: trees, method: "DELETE", target: "/v1/metrics/inflight?older_than=0", status: 200, want: exactly(`{"aborted":0}`)},
		sentence{says: "2.7 aborts, ours: no such request", at: running, method: "DELETE", target: "/v1/metrics/inflight?unique=7", status: 404, want: refusal("NoCounter")},
	)
}

// countersOff are the counters of files, and those of a read that only a mount of this
// host can show here (the guest's: TestMetricsCountExactly).
func (s *stage) countersOff() []sentence {
	six := oneFile(s.t, "hello\n")
	config := six.v1(map[string]any{"iostats_files": true, "access_pattern": true, "latest_read_files": true})
	get := func(says, target string, w want) sentence {
		return sentence{says: "2.7 " + says, at: "fuse", method: "GET", target: "/v1/metrics" + target, status: 200, want: w}
	}
	read := get("a reader of six bytes", "?id=/six", has(`"data_read":`))
	read.beside = func() error {
		_, err := os.ReadFile(filepath.Join(s.h.dir, "six", "f"))
		return err
	}
	const file = `\{"total_fops":\d+,"data_read":6,"block_count_read":\[1,0,0,0,0,0,0,0\],"fop_hits":\[\d+,0,\d+,\d+,1,(\d+,){9}\d+\],"fop_errors":\[(\d+,){14}\d+\]\}`
	return []sentence{
		get("a feature that is off lists nothing", "/files?id=/used&latest=false", exactly(`{}`)),
		get("a feature that is off lists nothing", "/files?id=/used", exactly(`{}`)),
		get("a feature that is off lists nothing", "/files?id=/used&latest=true", exactly(`[]`)),
		get("a feature that is off lists nothing", "/pattern?id=/used", exactly(`[]`)),
		{says: "2.7 latest is true or false", at: trees, method: "GET", target: "/v1/metrics/files?id=/used&latest=maybe", status: 400, want: refuses("BadRequest")},
		{says: "2.7 an image with every counter", at: "fuse", method: "POST", target: at("/six"), body: six.mountBody(config), status: 204},
		read,
		get("six bytes, one read", "?id=/six", has(`"files_account_enabled":true,"access_pattern_enabled":true,"record_latest_read_files_enabled":true`,
			`"data_read":6,"block_count_read":[1,0,0,0,0,0,0,0],"fop_hits":[`)),
		get("map of inodes", "/files?id=/six&latest=false", looks(`\{("\d+":\{"total_fops":\d+,"data_read":0,[^}]*\},)*"\d+":`+file+`(,"\d+":\{"total_fops":\d+,"data_read":0,[^}]*\})*\}`)),
		get("inodes with reads", "/pattern?id=/six", looks(`\[\{"ino":\d+,"nr_read":1,"first_access_time_secs":\d+,"first_access_time_nanos":\d+\}\]`)),
		get("inodes read since the last call", "/files?id=/six&latest=true", looks(`\[\[\d+\]\]`)),
		get("that call cleared the record", "/files?id=/six&latest=true", exactly(`[]`)),
		{says: "2.7 an image goes", at: "fuse", method: "DELETE", target: at("/six"), status: 204},
	}
}

// hotReload is 2.8; TestOverridesCountAtOnce shows values in use.
func (s *stage) hotReload() []sentence {
	const values = `{"dragonfly_scheduler_endpoint":"http://s:8002","proxy_url":"http://p:1","registry_auth":"dTpw"}`
	get := func(says, id, text string) sentence {
		return sentence{says: "2.8 " + says, at: running, method: "GET", target: "/v1/config" + id, status: 200, want: exactly(text)}
	}
	put := func(says, id, body string, status int, w want) sentence {
		return sentence{says: "2.8 " + says, at: running, method: "PUT", target: "/v1/config" + id, body: body, status: status, want: w}
	}
	return []sentence{
		get("none yet", "?id=/used", `{}`),
		put("every key", "?id=/used", values, 204, nil),
		get("stored, also without a registry", "?id=%2Fused", values),
		get("of that id only", "?id=/other", `{}`),
		get("absent is the empty id", "", `{}`),
		put("absent is the empty id", "", `{"registry_auth":"dTpw"}`, 204, nil),
		get("absent is the empty id", "?id=", `{"registry_auth":"dTpw"}`),
		put("any other key", "?id=/used", `{"proxy_url":"http://p:2","color":"red"}`, 500, refuses("Configure(ResponsePayloadType)")),
		put("values are strings", "?id=/used", `{"proxy_url":1}`, 400, refusal("ParseBody(Error(")),
		get("all or nothing", "?id=/used", values),
		put("one key leaves the others", "?id=/used", `{"proxy_url":"http://p:3"}`, 204, nil),
		get("one key leaves the others", "?id=/used", strings.Replace(values, "p:1", "p:3", 1)),
		put("nothing", "?id=/used", `{}`, 204, nil),
		put("keys of a store, ours", "?id=/used", `{"access_key_id":"i","access_key_secret":"s"}`, 204, nil),
		put("keys of a store, ours: one without the other", "?id=/used", `{"access_key_secret":"s"}`, 500, refusal("Configure(DaemonAbnormal(Other(")),
		get("keys of a store, ours, are not shown", "?id=/used", strings.Replace(values, "p:1", "p:3", 1)),
		put("reset", "", `{"registry_auth":""}`, 204, nil),
	}
}

// entry is a blob cache entry in the form of version 2, with other values for some keys.
func (s *stage) entry(domain, id string, change map[string]any) string {
	config := map[string]any{
		"version": 2, "id": "c", "metadata_path": s.im.Bootstrap,
		"backend": map[string]any{"type": "localfs", "localfs": map[string]any{"dir": s.im.BlobDir}},
		"cache": map[string]any{"type": "fscache", "fscache": map[string]any{"work_dir": s.im.cache},
			"prefetch": map[string]any{"enable": true, "prefetch_all": true}},
	}
	e := map[string]any{"type": "bootstrap", "id": id, "domain_id": domain, "config_v2": config}
	for k, v := range change {
		if _, top := e[k]; top {
			e[k] = v
		} else {
			config[k] = v
		}
	}
	text, _ := json.Marshal(e)
	return string(text)
}

// blobs are the requests of 2.9 that succeed.
func (s *stage) blobs() []sentence {
	v1 := `{"type":"bootstrap","id":"old","domain_id":"d2","config":{"id":"","backend_type":"localfs","backend_config":{"dir":"` + s.im.BlobDir + `"},` +
		`"cache_type":"fscache","cache_config":{"work_dir":"` + s.im.cache + `"},"prefetch_config":{"enable":true,"threads_count":8,"merging_size":1048576,"bandwidth_rate":0},` +
		`"metadata_path":"` + s.im.Bootstrap + `"}}`
	list := []sentence{
		{says: "2.9 list, empty", method: "GET", target: "/v2/blobs?domain_id=d", status: 200, want: exactly(`[]`)},
		{says: "2.9 bind", method: "PUT", target: "/v2/blobs", body: s.entry("d", "i", nil), status: 204},
		{says: "2.9 bind, in the form of version 1", method: "PUT", target: "/v2/blobs", body: v1, status: 204},
		{says: "2.9 a pair of domain and id is bound once", method: "PUT", target: "/v2/blobs", body: s.entry("d", "i", nil), status: 500,
			want: refusal(`CreateBlobObject(DaemonAbnormal(Other("blob_cache: `, "d/i is bound already")},
		{says: "2.9 the same id in another domain", method: "PUT", target: "/v2/blobs", body: s.entry("d2", "i", nil), status: 204},
		{says: "2.9 no domain", method: "PUT", target: "/v2/blobs", body: s.entry("", "i", nil), status: 204},
		{says: "2.9 list of a domain, with the image's data blobs", method: "GET", target: "/v2/blobs?domain_id=d", status: 200,
			want: looks(`\[\{"type":"bootstrap","id":"i","domain_id":"d","metadata_path":"[^"]+","data_blobs":\["[0-9a-f]{64}"\],"config_v2":\{"version":2,.*\}\}\]`)},
		{says: "2.9 list of all", method: "GET", target: "/v2/blobs", status: 200, want: has(`"id":"i","domain_id":"d"`, `"id":"i","domain_id":"d2"`, `"id":"old"`, `"domain_id":""`)},
		{says: "2.7 cache of what is bound, by the id of the configuration", method: "GET", target: "/v1/metrics/blobcache?id=c", status: 200, want: has(`"store_path":"` + s.im.cache + `"`)},
		{says: "2.7 back end of what is bound, by domain and id", method: "GET", target: "/v1/metrics/backend?id=d/i", status: 200, want: has(`"backend_type":"localfs"`)},
		{says: "2.7 what is bound has no file system", method: "GET", target: "/v1/metrics?id=d/i", status: 404, want: refusal("NoCounter")},
		{says: "2.9 unbind one image", method: "DELETE", target: "/v2/blobs?domain_id=d&blob_id=i", status: 204},
		{says: "2.9 others of its blobs stay", method: "GET", target: "/v2/blobs?domain_id=d2", status: 200, want: has(`"id":"i"`, `"id":"old"`)},
		{says: "2.9 unbind all of a domain", method: "DELETE", target: "/v2/blobs?domain_id=d2", status: 204},
		{says: "2.9 unbind without a domain", method: "DELETE", target: "/v2/blobs?domain_id=&blob_id=i", status: 204},
		{says: "2.9 nothing is left", method: "GET", target: "/v2/blobs", status: 200, want: exactly(`[]`)},
	}
	for i := range list {
		list[i].at = noTree
	}
	return list
}

// blobErrors are the refusals of 2.9.
func (s *stage) blobErrors() []sentence {
	bind := func(says string, status int, text string, change map[string]any) sentence {
		parts := []string{`ParseBody(Error("blob_cache: `, text}
		if status == 500 {
			parts[0] = `CreateBlobObject(DaemonAbnormal(Other("blob_cache: `
		}
		return sentence{says: "2.9 " + says, method: "PUT", target: "/v2/blobs", body: s.entry("d", "bad", change), status: status, want: refusal(parts...)}
	}
	v5 := map[string]any{"metadata_path": s.v5.Bootstrap}
	const notFound = `DeleteBlobObject(DaemonAbnormal(Other("blob_cache: cache entry not found")))`
	list := []sentence{
		{says: "2.9 malformed", method: "PUT", target: "/v2/blobs", body: "x", status: 400, want: refusal("ParseBody(Error(", ", line: 1, column: 1))")},
		bind("only bootstrap may be bound from outside", 400, "only bootstrap can be bound", map[string]any{"type": "datablob"}),
		bind("only bootstrap may be bound from outside", 400, "only bootstrap can be bound", map[string]any{"type": ""}),
		bind("no slash in a domain", 400, "an id contains a slash", map[string]any{"domain_id": "a/b"}),
		bind("no slash in an id", 400, "an id contains a slash", map[string]any{"id": "a/b"}),
		bind("no id", 400, "`id` is empty", map[string]any{"id": ""}),
		bind("no metadata_path", 400, "`metadata_path` is empty", map[string]any{"metadata_path": ""}),
		bind("an unusable configuration", 400, "unsupported backend type", map[string]any{"backend": map[string]any{"type": "tape"}}),
		bind("a wrong type, with key and line", 400, "config_v2.cache at line 1", map[string]any{"cache": 7}),
		bind("no cache", 400, "the cache type must be fscache or filecache", map[string]any{"cache": map[string]any{}}),
		bind("no back end", 400, "no backend", map[string]any{"backend": nil}),
		bind("metadata_path must be a file", 500, "is not a file", map[string]any{"metadata_path": "/none"}),
		bind("metadata_path must be a file", 500, "not a regular file", map[string]any{"metadata_path": s.im.BlobDir}),
		bind("metadata_path must be a bootstrap", 500, "no RAFS bootstrap", map[string]any{"metadata_path": s.file("junk", "junk")}),
		bind("work_dir must exist", 500, "work_dir must exist", map[string]any{"cache": map[string]any{"type": "fscache", "fscache": map[string]any{"work_dir": "/none"}}}),
		bind("RAFS v6 only", 500, "only RAFS v6 images can be bound", v5),
		{says: "2.9 unbind of an unknown blob", method: "DELETE", target: "/v2/blobs?domain_id=d&blob_id=b", status: 500, want: refuses(notFound)},
		{says: "2.9 unbind of an unknown domain", method: "DELETE", target: "/v2/blobs?domain_id=d", status: 500, want: refuses(notFound)},
		{says: "2.9 deleting a cache file needs fscache", method: "DELETE", target: "/v2/blobs?blob_id=b", status: 501, want: refuses("DeleteBlobFile(DaemonAbnormal(Unsupported))")},
		{says: "2.9 nothing of that is left", method: "GET", target: "/v2/blobs", status: 200, want: exactly(`[]`)},
	}
	for i := range list {
		list[i].at = noTree
	}
	return list
}

// lifeCycle is 2.3: an upgrade from fuse to waiting, what is refused on the way, and the
// ends of all others.
func (s *stage) lifeCycle() []sentence {
	put := func(says, at, command string, status int, w want) sentence {
		return sentence{says: "2.3 " + says, at: at, method: "PUT", target: "/v1/daemon/" + command, status: status, want: w}
	}
	state := func(says, at, name string) sentence {
		return sentence{says: "2.3 " + says, at: at, method: "GET", target: "/v1/daemon", status: 200, want: has(`"state":"` + name + `"`)}
	}
	unexpected := func(event string) want { return refuses(`Upgrade(DaemonAbnormal(UnexpectedEvent("` + event + `")))`) }
	const missing = `Upgrade(DaemonAbnormal(UpgradeManager("MissingSupervisorPath")))`
	unsupported := refuses("Upgrade(DaemonAbnormal(Unsupported))")
	foreign := put("takeover of what is no guest", "upper", "fuse/takeover", 500, refusal("Upgrade(DaemonAbnormal(Other(", "no daemon for guests"))
	foreign.beside = func() error { return s.h.sup.sendForeign() }
	send := put("sendfd", "fuse", "fuse/sendfd", 204, nil)
	send.beside = s.h.sup.Receive
	take := put("takeover in INIT", "waiting", "fuse/takeover", 204, nil)
	take.beside = func() error { return s.h.sup.send(s.h.sup.State) }
	read := sentence{says: "2.7 a reader after an upgrade", at: "waiting", method: "GET", target: "/v1/metrics?id=/used", status: 200, want: has(`"id":"/used"`)}
	read.beside = func() error {
		_, err := os.Lstat(filepath.Join(s.h.dir, "used", "no such name"))
		if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("lookup: %w", err)
		}
		return nil
	}
	again := put("sendfd after an upgrade", "waiting", "fuse/sendfd", 204, nil)
	again.beside = s.h.sup.Receive
	return []sentence{
		put("start while running", running+" alone", "start", 400, unexpected("Start")),
		put("start in INIT", "waiting lonely upper beneath cacheless", "start", 400, unexpected("Start")),
		put("takeover while running", running+" alone", "fuse/takeover", 400, unexpected("Takeover")),
		put("takeover without a supervisor", "lonely", "fuse/takeover", 500, refuses(missing)),
		put("takeover from a supervisor that isn't there", "abandoned", "fuse/takeover", 500, refusal("Upgrade(DaemonAbnormal(Other(", "supervisor")),
		put("takeover without a supervisor", "beneath", "fuse/takeover", 500, refuses(missing)),
		foreign,
		put("takeover of a cache of the kernel's", "cacheless", "fuse/takeover", 500, refusal("Upgrade(DaemonAbnormal(Other(", "/dev/cachefiles")),
		put("sendfd without a supervisor", "alone", "fuse/sendfd", 500, refuses(missing)),
		put("sendfd before the kernel sent FUSE_INIT", "waiting lonely", "fuse/sendfd", 503, refuses("Upgrade(DaemonAbnormal(NotReady))")),
		put("sendfd without a supervisor under virtiofs", "virtiofs beneath", "fuse/sendfd", 500, refuses(missing)),
		put("sendfd before a guest is served", "upper", "fuse/sendfd", 503, refuses("Upgrade(DaemonAbnormal(NotReady))")),
		put("sendfd in other modes", "singleton cacheless", "fuse/sendfd", 501, unsupported),
		send,
		{says: "2.5 mounting while in INIT is accepted", at: "waiting", method: "POST", target: at("/used"), body: s.im.mountBody(""), status: 204},
		state("INIT", "waiting", "INIT"),
		take,
		state("takeover ends in READY", "waiting", "READY"),
		put("takeover in READY", "waiting", "fuse/takeover", 400, unexpected("Takeover")),
		put("exit", "fuse", "exit", 204, nil),
		put("start in READY", "waiting", "start", 204, nil),
		state("start ends in RUNNING", "waiting", "RUNNING"),
		{says: "2.5 the takeover's mount is there", at: "waiting", method: "GET", target: "/v1/daemon/backend?mountpoint=/used", status: 200, want: has(`"version":1536`)},
		{says: "2.8 values outlive an upgrade", at: "waiting", method: "GET", target: "/v1/config?id=/used", status: 200, want: has(`"proxy_url":"http://p:3"`)},
		read,
		{says: "2.7 what is read after an upgrade is counted", at: "waiting", method: "GET", target: "/v1/metrics?id=/used", status: 200, want: looks(`.*"fop_hits":\[(\d+,){9}[1-9]\d*,.*`)},
		again,
		put("exit", "waiting alone lonely abandoned virtiofs upper beneath singleton cacheless", "exit", 204, nil),
	}
}
