{{/* What roles and bindings have in common. */}}

{{/* Reading the controllers that own pods, whose owner references are not believed
without them. Takes the verbs. */}}
{{- define "escape-scanner.ownerRules" -}}
- apiGroups: [""]
  resources: [pods, replicationcontrollers]
  verbs: {{ . }}
- apiGroups: [apps]
  resources: [deployments, replicasets, statefulsets, daemonsets]
  verbs: {{ . }}
- apiGroups: [batch]
  resources: [jobs, cronjobs]
  verbs: {{ . }}
{{- end -}}

{{- define "escape-scanner.subjects" -}}
{{- range $component := .components }}
- kind: ServiceAccount
  name: {{ include "escape-scanner.serviceAccount" (dict "root" $.root "component" $component) | toYaml }}
  namespace: {{ $.root.Release.Namespace | toYaml }}
{{- end }}
{{- end -}}

{{/* Takes (dict "root" $ "role" NAME "components" LIST "component" NAME), the last for labels. */}}
{{- define "escape-scanner.bindCluster" -}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: {{ .role }}
  labels:
    {{- include "escape-scanner.labels" . | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: {{ .role }}
subjects:
  {{- include "escape-scanner.subjects" . | trim | nindent 2 }}
{{- end -}}

{{/* The same with the "kind" of the role, in a "namespace". */}}
{{- define "escape-scanner.bind" -}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ .role }}
  namespace: {{ .namespace | toYaml }}
  labels:
    {{- include "escape-scanner.labels" . | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ .kind }}
  name: {{ .role }}
subjects:
  {{- include "escape-scanner.subjects" . | trim | nindent 2 }}
{{- end -}}

{{/* A role for one component where it works: in the whole cluster, or in the namespaces
that it is limited to. Takes "root", "component", "role", "rules" (YAML). */}}
{{- define "escape-scanner.roleWhereItWorks" -}}
{{- $c := index .root.Values .component -}}
{{- $components := list .component -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: {{ .role }}
  labels:
    {{- include "escape-scanner.labels" . | nindent 4 }}
rules:
  {{- .rules | nindent 2 }}
{{- if $c.namespaces }}
{{- range $namespace := $c.namespaces }}
{{ include "escape-scanner.bind" (dict "root" $.root "kind" "ClusterRole" "role" $.role "namespace" $namespace "components" $components "component" $.component) }}
{{- end }}
{{- else }}
{{ include "escape-scanner.bindCluster" (dict "root" .root "role" .role "components" $components "component" .component) }}
{{- end }}
{{- end -}}

{{/* A Role for one component in one namespace. Takes "root", "component", "role",
"namespace", "rules" (YAML). */}}
{{- define "escape-scanner.roleIn" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: {{ .role }}
  namespace: {{ .namespace | toYaml }}
  labels:
    {{- include "escape-scanner.labels" . | nindent 4 }}
rules:
  {{- .rules | nindent 2 }}
{{ include "escape-scanner.bind" (dict "root" .root "kind" "Role" "role" .role "namespace" .namespace "components" (list .component) "component" .component) }}
{{- end -}}
