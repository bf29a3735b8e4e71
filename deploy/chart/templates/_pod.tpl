{{/* What the pods of audit and watch have in common: nothing that PodSecurity's level
restricted would refuse. */}}

{{/* Fields of the pod. Takes (dict "root" $ "component" NAME). */}}
{{- define "escape-scanner.podSpec" -}}
{{- $c := index .root.Values .component -}}
serviceAccountName: {{ include "escape-scanner.serviceAccount" . | toYaml }}
automountServiceAccountToken: true
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  {{- with .root.Values.runAsUser }}
  runAsUser: {{ int64 . }}
  runAsGroup: {{ int64 . }}
  fsGroup: {{ int64 . }}
  fsGroupChangePolicy: OnRootMismatch
  {{- end }}
  seccompProfile:
    type: RuntimeDefault
{{- include "escape-scanner.scheduling" (dict "root" .root "c" $c) }}
{{- end -}}

{{/* Where pods run and what they are pulled with. */}}
{{- define "escape-scanner.scheduling" -}}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .c.priorityClassName }}
priorityClassName: {{ . | toYaml }}
{{- end }}
nodeSelector:
  {{- toYaml (merge (dict "kubernetes.io/os" "linux") .c.nodeSelector) | nindent 2 }}
{{- with .c.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .c.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "escape-scanner.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* The environment: what Go may use of the memory, so that it collects before the kernel
kills, and what the user adds. */}}
{{- define "escape-scanner.env" -}}
{{- $limit := dig "limits" "memory" "" .c.resources -}}
{{- if not (kindIs "string" $limit) }}{{ $limit = $limit | int64 | toString }}{{ end -}}
{{- $units := dict "" 1 "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- $unit := regexFind "[A-Za-z]*$" $limit -}}
{{- $mib := 0 -}}
{{- if and (hasKey $units $unit) (ne $limit "") -}}
{{- $mib = divf (mulf (trimSuffix $unit $limit) (get $units $unit) 0.9) 1048576 | floor | int64 -}}
{{- end -}}
{{- if gt $mib 0 -}}
- name: GOMEMLIMIT
  value: {{ printf "%dMiB" $mib | quote }}
{{- end }}
{{- with .c.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "escape-scanner.clusterArgs" -}}
{{- with .Values.clusterName }}
- --cluster-name={{ . }}
{{- end }}
{{- end -}}

{{/* Flags that say how KubeArmor's relay is reached. */}}
{{- define "escape-scanner.kubeArmorArgs" -}}
{{- $k := .Values.kubearmor -}}
{{- if $k.addresses }}
- --kubearmor={{ join "," $k.addresses }}
{{- end }}
{{- if $k.tls.existingSecret }}
- --kubearmor-tls=on
- --kubearmor-ca=/etc/escape-scanner-kubearmor/{{ $k.tls.caKey }}
{{- if $k.tls.certKey }}
- --kubearmor-cert=/etc/escape-scanner-kubearmor/{{ $k.tls.certKey }}
- --kubearmor-key=/etc/escape-scanner-kubearmor/{{ $k.tls.keyKey }}
{{- end }}
{{- else }}
- --kubearmor-tls={{ $k.tls.mode }}
{{- end }}
{{- with $k.tls.serverName }}
- {{ printf "--kubearmor-server-name=%s" . | quote }}
{{- end }}
{{- end -}}

{{/* Mounts that audit and watch share. */}}
{{- define "escape-scanner.mounts" -}}
{{- if include "escape-scanner.hasConfig" .root }}
- name: config
  mountPath: /etc/escape-scanner
  readOnly: true
{{- end }}
{{- if and .alerts .root.Values.kubearmor.tls.existingSecret }}
- name: kubearmor-tls
  mountPath: /etc/escape-scanner-kubearmor
  readOnly: true
{{- end }}
{{- with .c.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "escape-scanner.volumes" -}}
{{- if include "escape-scanner.hasConfig" .root }}
- name: config
  configMap:
    name: {{ include "escape-scanner.configMap" .root | toYaml }}
{{- end }}
{{- if and .alerts .root.Values.kubearmor.tls.existingSecret }}
- name: kubearmor-tls
  secret:
    secretName: {{ .root.Values.kubearmor.tls.existingSecret | toYaml }}
{{- end }}
{{- with .c.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}
