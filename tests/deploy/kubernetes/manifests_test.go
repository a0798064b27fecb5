// Package kubernetes checks deploy/kubernetes by what a cluster would check: kustomize builds it, the types of the
// API decode it strictly, and the evaluator of the profile `restricted` allows its pods.
//
// A module of its own, as what it needs is large and nothing else needs it: make check-kubernetes.
package kubernetes

import (
	"fmt"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

const (
	manifests = "../../../deploy/kubernetes"
	namespace = "errata"
	// What a service takes from SIGTERM to its end.
	exitSecondsMax = 10
)

// workload is a StatefulSet or a Deployment, as far as the two are alike.
type workload struct {
	name     string
	replicas int32
	selector *metav1.LabelSelector
	pod      corev1.PodTemplateSpec
}

func built(t *testing.T) []runtime.Object {
	t.Helper()
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), manifests)
	if err != nil {
		t.Fatal(err)
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		appsv1.AddToScheme, corev1.AddToScheme, networkingv1.AddToScheme, policyv1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	// Strict: a field that the API does not have, or one twice, is an error.
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	var objects []runtime.Object
	for _, each := range resources.Resources() {
		encoded, err := each.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		object, _, err := decoder.Decode(encoded, nil, nil)
		if err != nil {
			t.Fatalf("%s: %v", each.CurId(), err)
		}
		objects = append(objects, object)
	}
	return objects
}

func of[T runtime.Object](objects []runtime.Object) []T {
	var found []T
	for _, object := range objects {
		if typed, ok := object.(T); ok {
			found = append(found, typed)
		}
	}
	return found
}

func workloads(objects []runtime.Object) []workload {
	var found []workload
	for _, set := range of[*appsv1.StatefulSet](objects) {
		found = append(found, workload{set.Name, *set.Spec.Replicas, set.Spec.Selector, set.Spec.Template})
	}
	for _, deployment := range of[*appsv1.Deployment](objects) {
		spec := deployment.Spec
		found = append(found, workload{deployment.Name, *spec.Replicas, spec.Selector, spec.Template})
	}
	return found
}

func TestEveryObjectIsDecodedStrictlyAndIsInTheNamespace(t *testing.T) {
	objects := built(t)
	kinds := map[string]int{}
	for _, object := range objects {
		kinds[object.GetObjectKind().GroupVersionKind().Kind]++
		meta, ok := object.(metav1.Object)
		if !ok {
			t.Fatalf("%T has no metadata", object)
		}
		if _, isNamespace := object.(*corev1.Namespace); !isNamespace && meta.GetNamespace() != namespace {
			t.Errorf("%s is in namespace %q", meta.GetName(), meta.GetNamespace())
		}
	}
	want := "map[Deployment:1 Namespace:1 NetworkPolicy:3 PodDisruptionBudget:1 Service:2 StatefulSet:1]"
	if got := fmt.Sprint(kinds); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestEveryPodIsAllowedUnderTheRestrictedProfile(t *testing.T) {
	objects := built(t)
	enforced := of[*corev1.Namespace](objects)[0].Labels[api.EnforceLevelLabel]
	if enforced != string(api.LevelRestricted) {
		t.Errorf("the namespace enforces %q", enforced)
	}
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	level := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	for _, each := range workloads(objects) {
		pod := each.pod
		for _, result := range evaluator.EvaluatePod(level, &pod.ObjectMeta, &pod.Spec) {
			if !result.Allowed {
				t.Errorf("%s: %s: %s", each.name, result.ForbiddenReason, result.ForbiddenDetail)
			}
		}
	}
}

func TestEveryContainerIsReadOnlyProbedAndLimited(t *testing.T) {
	for _, each := range workloads(built(t)) {
		spec := each.pod.Spec
		for _, container := range spec.Containers {
			if read := container.SecurityContext.ReadOnlyRootFilesystem; read == nil || !*read {
				t.Errorf("%s: the root file system can be written", each.name)
			}
			ports := map[int32]bool{}
			for _, port := range container.Ports {
				ports[port.ContainerPort] = true
			}
			for _, probe := range []*corev1.Probe{
				container.StartupProbe, container.ReadinessProbe, container.LivenessProbe,
			} {
				if probe == nil || probe.GRPC == nil || !ports[probe.GRPC.Port] {
					t.Errorf("%s: a probe is missing, or not over gRPC at a port of the container", each.name)
				}
			}
			requested, limit := container.Resources.Requests.Memory(), container.Resources.Limits.Memory()
			if requested.IsZero() || limit.Cmp(*requested) < 0 {
				t.Errorf("%s: requests %s of memory with the limit %s", each.name, requested, limit)
			}
		}
		if *spec.TerminationGracePeriodSeconds < exitSecondsMax+5 {
			t.Errorf("%s: killed after %d s", each.name, *spec.TerminationGracePeriodSeconds)
		}
		if *spec.AutomountServiceAccountToken {
			t.Errorf("%s: gets a token of the cluster that it does not need", each.name)
		}
	}
}

func TestEverySelectorFindsItsPodsAndEveryNamedPortIsThere(t *testing.T) {
	objects := built(t)
	pods := workloads(objects)
	find := func(what string, selector *metav1.LabelSelector) []workload {
		t.Helper()
		parsed, err := metav1.LabelSelectorAsSelector(selector)
		if err != nil {
			t.Fatal(err)
		}
		var found []workload
		for _, each := range pods {
			if parsed.Matches(labels.Set(each.pod.Labels)) {
				found = append(found, each)
			}
		}
		if len(found) == 0 {
			t.Errorf("%s selects no pod", what)
		}
		return found
	}
	named := func(each workload, port string) bool {
		for _, container := range each.pod.Spec.Containers {
			for _, declared := range container.Ports {
				if declared.Name == port {
					return true
				}
			}
		}
		return false
	}
	for _, each := range pods {
		if found := find(each.name, each.selector); len(found) != 1 || found[0].name != each.name {
			t.Errorf("%s selects %d kinds of pods", each.name, len(found))
		}
	}
	for _, service := range of[*corev1.Service](objects) {
		found := find(service.Name, &metav1.LabelSelector{MatchLabels: service.Spec.Selector})
		for _, port := range service.Spec.Ports {
			if !named(found[0], port.TargetPort.StrVal) {
				t.Errorf("service %s: no port %q", service.Name, port.TargetPort.StrVal)
			}
		}
	}
	for _, budget := range of[*policyv1.PodDisruptionBudget](objects) {
		found := find(budget.Name, budget.Spec.Selector)
		if allowed := budget.Spec.MaxUnavailable.IntVal; found[0].replicas <= allowed {
			t.Errorf("budget %s: allows that all %d are away", budget.Name, found[0].replicas)
		}
	}
	for _, networkPolicy := range of[*networkingv1.NetworkPolicy](objects) {
		found := find(networkPolicy.Name, &networkPolicy.Spec.PodSelector)
		for _, rule := range networkPolicy.Spec.Ingress {
			if len(rule.From) == 0 {
				t.Errorf("policy %s: lets everybody in", networkPolicy.Name)
			}
			for _, port := range rule.Ports {
				if !named(found[0], port.Port.StrVal) {
					t.Errorf("policy %s: no port %q", networkPolicy.Name, port.Port.StrVal)
				}
			}
		}
	}
}

func TestTheLearnerIsOneAndItsStoreFitsItsVolume(t *testing.T) {
	objects := built(t)
	sets := of[*appsv1.StatefulSet](objects)
	if len(sets) != 1 || *sets[0].Spec.Replicas != 1 {
		t.Fatal("one process writes a store: the Learner has one replica")
	}
	volume := sets[0].Spec.VolumeClaimTemplates[0].Spec.Resources.Requests[corev1.ResourceStorage]
	for _, variable := range sets[0].Spec.Template.Spec.Containers[0].Env {
		if variable.Name == "ERRATA_STORE_BYTES_MAX" {
			// The Learner's G is the Gi of Kubernetes.
			if limit := resource.MustParse(variable.Value + "i"); limit.Cmp(volume) >= 0 {
				t.Errorf("the store may take %s of a volume of %s", &limit, &volume)
			}
			return
		}
	}
	t.Error("nothing limits the store to its volume")
}
