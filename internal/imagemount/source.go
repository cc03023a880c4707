package imagemount

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"vrafs/oci"
)

// object is a part of a configuration.
type object map[string]any

// configuration tells a daemon where the blobs of im are and where to keep them.
func configuration(im *oci.Image, cacheDir string) (string, error) {
	backend, err := backendOf(im)
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(object{
		"version": 2, "id": im.Desc.Digest.String(), "backend": backend,
		"cache": object{"type": "blobcache", "filecache": object{"work_dir": cacheDir}},
		"rafs":  object{"mode": "direct", "validate": false, "enable_xattr": true},
	})
	return string(text), err
}

// backendOf is the place of im's blobs as a daemon is told it.
func backendOf(im *oci.Image) (object, error) {
	switch im.Ref.Kind {
	case oci.KindLayout:
		dir, err := filepath.Abs(filepath.Join(im.Ref.Path, "blobs", "sha256"))
		return object{"type": "localfs", "localfs": object{"dir": dir}}, err
	case oci.KindRegistry:
	default:
		return nil, fmt.Errorf("%s: an archive can't be mounted: copy it to a layout first (vrafs copy %s oci:DIRECTORY)", im.Ref, im.Ref)
	}
	e, _, err := im.Endpoint()
	if err != nil {
		return nil, err
	}
	r := object{"scheme": e.Scheme, "host": e.Host, "repo": e.Repo, "skip_verify": e.SkipVerify}
	if e.ClientCert {
		return nil, fmt.Errorf("%s: the registry is to be shown a certificate, which the daemon can't do", im.Ref)
	}
	if len(e.CAFiles) > 0 {
		r["ca_cert_files"] = e.CAFiles
	}
	switch c := e.Credential; {
	case c.RegistryToken != "":
		r["registry_token"] = c.RegistryToken
	case c.IdentityToken != "": // docker login keeps it with a name and an empty password
		return nil, fmt.Errorf("%s: the credentials are an identity token, which the daemon can't use: log in with a password or an access token", im.Ref)
	case c.Username != "":
		r["auth"] = base64.StdEncoding.EncodeToString([]byte(c.Username + ":" + c.Password))
	}
	return object{"type": "registry", "registry": r}, nil
}

// saveBootstrap stores the bootstrap of im.
func saveBootstrap(ctx context.Context, im *oci.Image, path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := im.Bootstrap(ctx, f); err != nil {
		return err
	}
	return f.Close()
}
