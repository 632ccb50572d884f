{{- define "cloudpose.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Kept short: the longest name hung to it is a pool's. */}}
{{- define "cloudpose.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "cloudpose.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "cloudpose.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "cloudpose.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: cloudpose
{{ include "cloudpose.selector" . }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Of pods: nothing that says which chart or version made them, or every version of the chart would restart them all. */}}
{{- define "cloudpose.podLabels" -}}
app.kubernetes.io/part-of: cloudpose
{{ include "cloudpose.selector" . }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* What never changes over a release's life. */}}
{{- define "cloudpose.selector" -}}
app.kubernetes.io/name: {{ include "cloudpose.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "cloudpose.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "cloudpose.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* (dict "root" $ "image" image): `image` over the chart's own. */}}
{{- define "cloudpose.image" -}}
{{- $own := .root.Values.image -}}
{{- $image := .image | default dict -}}
{{- $repository := $image.repository | default $own.repository -}}
{{- $digest := $image.digest -}}
{{- if and (not $digest) (eq $repository $own.repository) -}}{{- $digest = $own.digest -}}{{- end -}}
{{- if $digest -}}
{{ $repository }}@{{ $digest }}
{{- else -}}
{{ $repository }}:{{ $image.tag | default $own.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* What the pod security standard `restricted` asks for. */}}
{{- define "cloudpose.podSecurity" -}}
runAsNonRoot: true
{{- with .Values.podSecurity.userId }}
runAsUser: {{ int64 . }}
runAsGroup: {{ int64 . }}
fsGroup: {{ int64 . }}
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "cloudpose.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* (dict "root" $ "component" name "pool" name or ""): spread over zones and nodes. */}}
{{- define "cloudpose.spread" -}}
{{- if .root.Values.topologySpread.enabled }}
topologySpreadConstraints:
{{- range $key := list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ $key }}
    whenUnsatisfiable: {{ $.root.Values.topologySpread.whenUnsatisfiable }}
    labelSelector:
      matchLabels:
        {{- include "cloudpose.selector" $.root | nindent 8 }}
        app.kubernetes.io/component: {{ $.component }}
        {{- with $.pool }}
        cloudpose.io/pool: {{ . }}
        {{- end }}
    matchLabelKeys: [pod-template-hash]
{{- end }}
{{- end }}
{{- end -}}

{{/* (dict "root" $ "user" gateway or worker "extra" list): who the process is on NATS, and the rest of its environment. */}}
{{- define "cloudpose.env" -}}
{{- $nats := .root.Values.nats -}}
env:
{{- with include "cloudpose.natsSecret" .root }}
  - name: NATS_PASSWORD
    valueFrom:
      secretKeyRef: { name: {{ . }}, key: {{ $.user }}-password }
  - name: CLOUDPOSE_NATS
    value: {{ include "cloudpose.natsUrl" $.root | replace "://" (printf "://%s:$(NATS_PASSWORD)@" $.user) | quote }}
{{- else }}
  - name: CLOUDPOSE_NATS
    value: {{ include "cloudpose.natsUrl" .root | quote }}
{{- end }}
{{- if $nats.credentials.secret }}
  - name: CLOUDPOSE_NATS_CREDENTIALS
    value: /etc/cloudpose/nats/{{ $nats.credentials.key }}
{{- end }}
{{- if $nats.nkeys.secret }}
  - name: CLOUDPOSE_NATS_NKEY
    value: /etc/cloudpose/nats-nkeys/{{ $.user }}.nk
{{- end }}
{{- if $nats.ca.secret }}
  - name: CLOUDPOSE_NATS_CA
    value: /etc/cloudpose/nats-ca/{{ $nats.ca.key }}
{{- end }}
{{- with .extra }}
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "cloudpose.volumeMounts" -}}
{{- $nats := .Values.nats -}}
{{- if or $nats.credentials.secret $nats.nkeys.secret $nats.ca.secret .keysSecret .callbackSecret .claim }}
volumeMounts:
{{- if $nats.credentials.secret }}
  - { name: nats-credentials, mountPath: /etc/cloudpose/nats, readOnly: true }
{{- end }}
{{- if $nats.nkeys.secret }}
  - { name: nats-nkeys, mountPath: /etc/cloudpose/nats-nkeys, readOnly: true }
{{- end }}
{{- if $nats.ca.secret }}
  - { name: nats-ca, mountPath: /etc/cloudpose/nats-ca, readOnly: true }
{{- end }}
{{- if .keysSecret }}
  - { name: keys, mountPath: /etc/cloudpose/keys, readOnly: true }
{{- end }}
{{- if .callbackSecret }}
  - { name: callbacks, mountPath: /etc/cloudpose/callbacks, readOnly: true }
{{- end }}
{{- if .claim }}
  - { name: data, mountPath: /data }
{{- end }}
{{- end }}
{{- end -}}

{{- define "cloudpose.volumes" -}}
{{- $nats := .Values.nats -}}
{{- if or $nats.credentials.secret $nats.nkeys.secret $nats.ca.secret .keysSecret .callbackSecret .claim }}
volumes:
{{- with $nats.credentials.secret }}
  - name: nats-credentials
    secret: { secretName: {{ . }}, defaultMode: 0440 }
{{- end }}
{{- with $nats.nkeys.secret }}
  - name: nats-nkeys
    secret: { secretName: {{ . }}, defaultMode: 0440 }
{{- end }}
{{- with $nats.ca.secret }}
  - name: nats-ca
    secret: { secretName: {{ . }}, defaultMode: 0440 }
{{- end }}
{{- with .keysSecret }}
  - name: keys
    secret: { secretName: {{ . }}, defaultMode: 0440 }
{{- end }}
{{- with .callbackSecret }}
  - name: callbacks
    secret: { secretName: {{ . }}, defaultMode: 0440 }
{{- end }}
{{- with .claim }}
  - name: data
    persistentVolumeClaim: { claimName: {{ . }} }
{{- end }}
{{- end }}
{{- end -}}

{{/* Where a pod may run. (dict "root" $ "of" the component's values) */}}
{{- define "cloudpose.placement" -}}
{{- with .of.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .of.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .of.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .of.priorityClassName | default (ternary .root.Values.priorityClass.name "" .root.Values.priorityClass.create) }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{/* Settings of every process. */}}
{{- define "cloudpose.settings" -}}
CLOUDPOSE_GRACE: {{ printf "%ds" (int .Values.drain.graceSeconds) }}
CLOUDPOSE_NATS_PREFIX: {{ .Values.nats.prefix }}
{{- if and (not .Values.nats.url) (gt (int .Values.nats.bundled.servers) 1) }}
CLOUDPOSE_NATS_REPLICAS: {{ .Values.nats.bundled.servers | quote }}
{{- end }}
{{- range $name, $value := .Values.config }}
{{ $name }}: {{ $value | quote }}
{{- end }}
{{- end -}}

{{- define "cloudpose.grace" -}}
{{- add .Values.drain.preStopSeconds .Values.drain.graceSeconds 10 -}}
{{- end -}}

{{/* Probes on the port `ops`. A worker answers once its model is loaded; the first start on a node may take long. */}}
{{- define "cloudpose.probes" -}}
startupProbe:
  httpGet: { path: /health, port: ops }
  periodSeconds: 2
  failureThreshold: 90
livenessProbe:
  httpGet: { path: /health, port: ops }
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
readinessProbe:
  httpGet: { path: /ready, port: ops }
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 2
{{- end -}}
