// Command prepare asks a snapshotter for the layers of an image as containerd does when
// CRI pulls one: each with what image and manifest it belongs to. The last is prepared for
// a container.
//
//	prepare -address S -ref HOST/REPO:TAG -manifest sha256:M LAYER.. --> mounts, as JSON
//
// LAYER is a digest. A snapshotter that has a layer already, or needs none, says so; to be
// told to fetch one is an error.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"

	api "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/snapshots/proxy"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/snapshotters"
	"github.com/containerd/errdefs"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

func main() {
	address := flag.String("address", "", "the snapshotter's socket")
	ref := flag.String("ref", "", "the image's reference")
	manifest := flag.String("manifest", "", "digest of its manifest")
	flag.Parse()
	if err := prepare(*address, *ref, *manifest, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "prepare:", err)
		os.Exit(1)
	}
}

func prepare(address, ref, manifest string, layers []string) error {
	conn, err := grpc.NewClient("unix://"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	s := proxy.NewSnapshotter(api.NewSnapshotsClient(conn), "nydus")
	ctx := namespaces.WithNamespace(context.Background(), "test")
	parent := ""
	for i, layer := range layers {
		name := fmt.Sprintf("layer %d", i) // containerd's is the chain id, which need only be unique
		_, err := s.Prepare(ctx, "extract "+name, parent, snapshots.WithLabels(map[string]string{
			"containerd.io/snapshot.ref":           name,
			snapshotters.TargetRefLabel:            ref,
			snapshotters.TargetManifestDigestLabel: manifest,
			snapshotters.TargetLayerDigestLabel:    layer,
		}))
		if err == nil {
			return fmt.Errorf("layer %s is to be fetched", layer)
		}
		if !errdefs.IsAlreadyExists(err) {
			return err
		}
		parent = name
	}
	mounts, err := s.Prepare(ctx, "container", parent)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(mounts)
}
