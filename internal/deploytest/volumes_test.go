package deploytest

import (
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// volumes are the folders, on this machine, of a pod's volumes.
func (n *node) volumes(pod *corev1.Pod) map[string]string {
	n.Helper()
	dirs := map[string]string{}
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		switch {
		case v.HostPath != nil:
			dirs[v.Name] = v.HostPath.Path
		case v.PersistentVolumeClaim != nil:
			dirs[v.Name] = filepath.Join(n.claims, v.PersistentVolumeClaim.ClaimName)
			if err := os.MkdirAll(dirs[v.Name], 0o777); err != nil {
				n.Fatal(err)
			}
		default:
			dirs[v.Name] = n.TempDir()
			n.fill(dirs[v.Name], pod, v)
		}
	}
	return dirs
}

// fill puts into a volume what belongs there.
func (n *node) fill(dir string, pod *corev1.Pod, v *corev1.Volume) {
	n.Helper()
	switch {
	case v.EmptyDir != nil:
	case v.ConfigMap != nil:
		n.project(dir, n.configMap(pod.Namespace, v.ConfigMap.Name, v.ConfigMap.Optional), v.ConfigMap.Items)
	case v.Secret != nil:
		n.project(dir, n.secret(pod.Namespace, v.Secret.SecretName, v.Secret.Optional), v.Secret.Items)
	case v.Projected != nil:
		for _, source := range v.Projected.Sources {
			switch {
			case source.ServiceAccountToken != nil:
				n.project(dir, map[string][]byte{source.ServiceAccountToken.Path: []byte(n.token(pod.Namespace, pod.Spec.ServiceAccountName))}, nil)
			case source.ConfigMap != nil:
				n.project(dir, n.configMap(pod.Namespace, source.ConfigMap.Name, source.ConfigMap.Optional), source.ConfigMap.Items)
			case source.Secret != nil:
				n.project(dir, n.secret(pod.Namespace, source.Secret.Name, source.Secret.Optional), source.Secret.Items)
			case source.DownwardAPI != nil:
				for _, item := range source.DownwardAPI.Items {
					n.project(dir, map[string][]byte{item.Path: []byte(n.field(pod, item.FieldRef.FieldPath))}, nil)
				}
			}
		}
	default:
		n.Fatalf("volume %s of %s: nobody looked yet what a node makes of it", v.Name, pod.Name)
	}
}

// project writes values as files.
func (n *node) project(dir string, values map[string][]byte, items []corev1.KeyToPath) {
	n.Helper()
	if len(items) == 0 {
		for name := range values {
			items = append(items, corev1.KeyToPath{Key: name, Path: name})
		}
	}
	for _, item := range items {
		value, ok := values[item.Key]
		if !ok {
			n.Fatalf("there is no %s to make a file of", item.Key)
		}
		path := filepath.Join(dir, item.Path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			n.Fatal(err)
		}
		if err := os.WriteFile(path, value, 0o600); err != nil {
			n.Fatal(err)
		}
	}
}

func (n *node) configMap(namespace, name string, optional *bool) map[string][]byte {
	n.Helper()
	if name == "kube-root-ca.crt" {
		// It is made by a controller.
		return map[string][]byte{"ca.crt": n.server.Config().CAData}
	}
	found, err := n.server.Client().CoreV1().ConfigMaps(namespace).Get(n.Context(), name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) && optional != nil && *optional {
		return nil
	}
	if err != nil {
		n.Fatal(err)
	}
	values := map[string][]byte{}
	for key, value := range found.Data {
		values[key] = []byte(value)
	}
	return values
}

func (n *node) secret(namespace, name string, optional *bool) map[string][]byte {
	n.Helper()
	found, err := n.server.Client().CoreV1().Secrets(namespace).Get(n.Context(), name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) && optional != nil && *optional {
		return nil
	}
	if err != nil {
		n.Fatal(err)
	}
	return found.Data
}
