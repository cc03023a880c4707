package config

import "testing"

func TestPlaceSaysWhereBlobsAre(t *testing.T) {
	const keys = `"access_key_id":"i","access_key_secret":"hunter2"`
	for _, tt := range []struct{ kind, section, want string }{
		{"localfs", `"dir":"/d"`, "/d"},
		{"localfs", `"dir":"/d","blob_file":"/f"`, "/f"},
		{"localdisk", `"device_path":"/dev/x"`, "/dev/x"},
		{"registry", `"host":"h","repo":"r","auth":"dTpodW50ZXIy"`, "h/r"},
		{"oss", `"endpoint":"e","bucket_name":"b",` + keys, "b.e"},
		{"s3", `"endpoint":"e","region":"eu","bucket_name":"b",` + keys, "e/b"},
		{"http-proxy", `"addr":"http://u:hunter2@h/p"`, "http://h/p"},
	} {
		c, err := Parse([]byte(v2With(tt.kind, tt.section)))
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Backend.Place(); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.kind, got, tt.want)
		}
	}
}
