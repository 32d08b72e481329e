// Every text that the page shows, in English and in Chinese: the only place for texts.

export const LANGUAGES = { en: "English", "zh-CN": "中文" };

/** Key -> [English, Chinese]; {name} stands for a value. */
export const TEXTS = {
  title: ["Upload files", "上传文件"],
  intro: [
    "Your files go directly from this browser to the storage. Each byte is checked there.",
    "文件由浏览器直接上传到对象存储 OSS，每个字节都会校验。",
  ],
  language: ["Language", "语言"],
  destination: ["Destination", "上传位置"],
  token: ["Token", "令牌（Token）"],
  tokenHelp: [
    "It comes from the person who asked for the files. Keep it secret.",
    "由向您索取文件的人提供，请勿转发给他人。",
  ],
  permitted: ["You may upload to {places}.", "您可以上传到：{places}。"],
  permittedSize: [" Each file may have up to {size}.", "单个文件最大为 {size}。"],
  permittedKept: [" Existing files are never replaced.", "不会覆盖已有文件。"],
  permittedReplaced: [" A file with the same name is replaced.", "同名文件会被覆盖。"],
  permittedObjects: [" Files left: {count}.", "还可上传 {count} 个文件。"],
  permittedBytes: [" Space left: {size}.", "总共还可上传 {size}。"],
  permittedUntil: [" Valid until {time}.", "有效期至 {time}。"],
  chooseGrant: ["Choose a grant file", "选择授权文件"],
  grantHelp: ["Only if you got a grant file instead of a token.", "仅当您收到的是授权文件而不是令牌时使用。"],
  grantUntil: ["{name}: until {time}", "{name}：有效期至 {time}"],
  publish: [
    "This grant makes the files public: anyone can read them. I agree.",
    "此授权会将文件设为公共读（任何人都可以读取），我同意。",
  ],
  bucket: ["Bucket", "存储空间（Bucket）"],
  folder: ["Folder", "目录"],
  drop: ["Drop files or folders here", "将文件或文件夹拖到此处"],
  chooseFiles: ["Choose files", "选择文件"],
  chooseFolder: ["Choose a folder", "选择文件夹"],
  unfinished: ["Not finished last time", "上次未完成的上传"],
  unfinishedHelp: [
    "Choose the same file again. Only missing parts are sent.",
    "重新选择同一个文件即可断点续传，只上传缺少的分片。",
  ],
  sentBefore: ["{size} sent before", "之前已上传 {size}"],
  giveUp: ["Give up", "放弃"],
  givenUp: ["Given up. The sent parts are removed.", "已放弃，已上传的分片已删除。"],
  partsStay: [
    "Given up. The sent parts stay until the owner of the bucket removes them.",
    "已放弃。已上传的分片会保留，直到 Bucket 拥有者将其删除。",
  ],
  files: ["Files", "文件列表"],
  allFiles: ["All files", "全部文件"],
  upload: ["Upload", "上传"],
  addMore: ["Add more files", "继续添加文件"],
  saveReceipt: ["Save the receipt", "保存回执"],
  pause: ["Pause", "暂停"],
  resume: ["Continue", "继续"],
  paused: ["Paused, {size} sent", "已暂停，已上传 {size}"],
  replaces: [
    "{count} of these files exist already, or the page cannot see whether they exist: {names}. Replace them?",
    "其中 {count} 个文件已存在，或无法确认是否存在：{names}。是否覆盖？",
  ],
  uploadMany: ["Upload {count} files", "上传 {count} 个文件"],
  cancelAll: ["Cancel all", "全部取消"],
  remove: ["Remove", "移除"],
  cancel: ["Cancel", "取消"],
  tryAgain: ["Try again", "重试"],
  labelled: ["{label}: {name}", "{label}：{name}"],
  goesTo: ["to {place}", "上传到 {place}"],
  storedIn: ["stored as {place}", "已存储到 {place}"],
  ready: ["Ready", "待上传"],
  waiting: ["Waiting", "排队中"],
  stopping: ["Cancelling", "正在取消"],
  stored: ["Stored and checked", "已上传并通过校验"],
  cancelled: ["Cancelled", "已取消"],
  sent: ["{size} sent", "已上传 {size}"],
  allSent: ["All sent, waiting for the store", "已全部发送，等待 OSS 确认"],
  retrying: ["Waiting to try again ({count})", "等待重试（第 {count} 次）"],
  summary: ["{stored} of {all} stored and checked", "已上传并校验 {stored}/{all} 个文件"],
  countFailed: [", {count} failed", "，{count} 个失败"],
  countCancelled: [", {count} cancelled", "，{count} 个已取消"],
  countReady: ["{count} ready, {size}", "{count} 个文件待上传，共 {size}"],
  progress: ["{sent} of {total}", "{sent}/{total}"],
  pace: [", {rate} a second, about {time} left", "，每秒 {rate}，大约还需 {time}"],
  percent: ["{count} % sent", "已上传 {count}%"],
  // What the person can put right on the page.
  needToken: ["Paste your token first.", "请先粘贴令牌。"],
  oddToken: ["The token holds blanks or odd characters. Paste it again.", "令牌中有空格或无效字符，请重新粘贴。"],
  needBucket: [
    "Enter the bucket: lower-case letters, digits and hyphens.",
    "请填写存储空间（Bucket）名称：小写字母、数字和短横线。",
  ],
  slashFirst: ["The folder must not begin with a slash.", "目录不能以斜杠开头。"],
  badDrop: [
    "A dropped file cannot be read. Choose the files with the button.",
    "拖入的内容无法读取，请使用按钮选择文件。",
  ],
  unreadable: ["The file cannot be read, or has changed. Choose it again.", "文件无法读取或已更改，请重新选择。"],
  oldBrowser: ["This browser cannot read the file. Use a newer browser.", "此浏览器无法读取文件，请使用更新的浏览器。"],
  pageFailed: ["This page failed. Reload it, then try again.", "页面出错，请刷新后重试。"],
  // Replies of the signer.
  tokenRefused: [
    "The token was not accepted. Paste it again, whole and without spaces.",
    "令牌无效，请重新完整粘贴，不要带空格。",
  ],
  notGranted: [
    "This token does not permit this upload. Ask the person who gave you the token.",
    "此令牌没有该权限，请联系提供令牌的人。",
  ],
  forbidden: [
    "This token does not allow writing there. Check bucket and folder.",
    "此令牌不允许写入该位置，请检查存储空间和目录。",
  ],
  headerRefused: ["The signer refuses a header that the upload needs.", "签名服务拒绝了上传所需的请求头。"],
  tooLarge: ["The file is larger than this token allows.", "文件超过此令牌允许的大小。"],
  quotaUsed: [
    "This token permits no further upload. Ask the person who gave it to you.",
    "此令牌的上传额度已用完，请联系提供令牌的人。",
  ],
  badRequest: [
    "The signer does not accept bucket, folder or file name.",
    "签名服务不接受此存储空间、目录或文件名。",
  ],
  signerRefused: ["The signer refused.", "签名服务拒绝了请求。"],
  signerBusy: ["The signer cannot sign now. Try again later.", "签名服务暂时无法签名，请稍后重试。"],
  signerAnswered: [
    "The signer answered {status}. Tell the owner of the signer.",
    "签名服务返回 {status}，请联系签名服务的所有者。",
  ],
  signerSilent: [
    "The signer cannot be reached. Check the network, then try again.",
    "无法连接签名服务，请检查网络后重试。",
  ],
  oddName: [
    "A browser cannot send to this name. Use no folder with the name . or .., and only usual characters.",
    "浏览器无法上传到此名称。请勿使用名为 . 或 .. 的目录，并且只使用常用字符。",
  ],
  // Replies of the store.
  refused: [
    "The store refused ({code}). Tell the owner of the bucket.",
    "OSS 拒绝了请求（{code}），请联系 Bucket 拥有者。",
  ],
  trouble: ["The store has trouble ({code}). Try again later.", "OSS 暂时不可用（{code}），请稍后重试。"],
  expired: [
    "The store says that each new signed URL has expired. Tell the owner of the signer.",
    "OSS 认为每个新的签名 URL 都已过期，请联系签名服务的所有者。",
  ],
  unreachable: [
    "{host} cannot be reached. Check the network, then try again. If it never works, the bucket needs a CORS rule for this page.",
    "无法连接 {host}，请检查网络后重试。如果始终失败，Bucket 需要为此页面设置跨域规则（CORS）。",
  ],
  notExposed: [
    "The bucket's CORS rule does not let this page read the store's checksums. The owner of the bucket must expose ETag and x-oss-hash-crc64ecma.",
    "Bucket 的跨域规则（CORS）不允许此页面读取校验值。Bucket 拥有者需要暴露 ETag 和 x-oss-hash-crc64ecma 响应头。",
  ],
  taken: [
    "An object with this name already exists and must not be replaced. Choose another folder or name.",
    "同名文件（Object）已存在且不允许覆盖，请更换目录或文件名。",
  ],
  unknown: [
    "The store's last reply was lost, and this token does not permit to check the object. The file is most likely stored. Ask the owner of the bucket, or upload it again.",
    "OSS 的最后一次响应丢失，而此令牌不能查询文件（Object）。文件很可能已存储：请询问 Bucket 拥有者，或重新上传。",
  ],
  damaged: ["The bytes arrive damaged. Try another network or computer.", "数据在传输中损坏，请更换网络或电脑后重试。"],
  differs: [
    "The object in the store differs from the file. Upload it again.",
    "OSS 中的文件（Object）与本地文件不一致，请重新上传。",
  ],
  absent: ["Not stored. Try again.", "未存储，请重试。"],
  badReply: ["The store's reply cannot be used. Try again.", "无法识别 OSS 的响应，请重试。"],
  uploadGone: ["The store dropped the upload twice. Try again.", "OSS 两次丢弃了该分片上传，请重试。"],
  detail: [" ({detail})", "（{detail}）"],
  requestId: [" Request {id}.", "请求ID：{id}。"],
  // Grants.
  badGrant: [
    "This is not a complete grant file. Ask its owner for it again.",
    "这不是授权文件，或文件不完整，请联系其所有者重新获取。",
  ],
  grantInsecure: [
    "This page sends only to https addresses. The address of the grant is another one.",
    "此页面只通过 https 上传，而授权的地址不是 https。",
  ],
  grantEnded: ["The grant has expired. Ask its owner for a new one.", "授权已过期，请向其所有者获取新的授权。"],
  grantEarly: [
    "The grant is not valid yet. Check the clock of this device.",
    "授权尚未生效，请检查此设备的时间。",
  ],
  grantPublic: [
    "The grant makes the files public. Tick the box below the grant if you agree.",
    "此授权会将文件设为公共读。如果同意，请勾选授权下方的选项。",
  ],
  grantWhole: [
    "With a grant, a file is sent whole. It can have at most 5 GiB less 8 MiB.",
    "授权使用表单上传，不支持分片上传，文件最大为 5 GiB 减 8 MiB。",
  ],
  grantBucket: ["The grant is for another bucket.", "此授权用于其他存储空间。"],
  grantSize: ["The grant takes files of {from} to {to}.", "此授权只接受 {from} 到 {to} 的文件。"],
  grantName: ["The grant does not allow this name: {rule}.", "此授权不允许该文件名：{rule}。"],
  grantType: ["The grant does not allow files of this type: {rule}.", "此授权不允许该类型的文件：{rule}。"],
  grantUnfit: ["The grant does not fit this page ({name}). Tell its owner.", "此授权不适用于该页面（{name}），请联系其所有者。"],
  grantElsewhere: [
    "This page must not send to the address of the grant. Ask the owner of the grant for the right page.",
    "此页面不能上传到授权指定的地址，请向其所有者索取正确的页面。",
  ],
  formName: ["A form would change this name. Rename the file.", "表单会改变此文件名，请重命名文件。"],
  badName: [
    "A name has at most {max} bytes, and does not begin with a slash. Rename the file.",
    "文件名最多 {max} 字节，且不能以斜杠开头，请重命名文件。",
  ],
};

let language = "en";

/** Use the language that fits a tag such as "zh-TW"; return its own tag. */
export function useLanguage(tag) {
  language = /^zh\b/iu.test(tag ?? "") ? "zh-CN" : "en";
  return language;
}

/** Return the text of a key in the language of the page. */
export function text(key, values = {}) {
  const template = TEXTS[key][Object.keys(LANGUAGES).indexOf(language)];
  return template.replace(/\{(\w+)\}/gu, (_, name) => values[name]);
}

/** Return what a person reads about an error. */
export function explain({ kind, message, values = {} }) {
  if (!kind) {
    return text("pageFailed");
  }
  const { detail, id } = values;
  return text(message, values) + (detail ? text("detail", { detail }) : "") + (id ? text("requestId", { id }) : "");
}

/** Return a number of bytes as people write it. */
export function bytesText(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const unit = Math.min(units.length - 1, Math.floor(Math.log2(Math.max(1, count)) / 10));
  const value = count / 1024 ** unit;
  return `${unit && value < 10 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

/** Return a time in seconds as people say it. */
export function durationText(seconds) {
  const [unit, length] = seconds < 90 ? ["second", 1] : seconds < 5400 ? ["minute", 60] : ["hour", 3600];
  const format = new Intl.NumberFormat(language, { style: "unit", unit, unitDisplay: "short" });
  return format.format(Math.max(1, Math.round(seconds / length)));
}

/** Return a time in milliseconds as a date with the time and its zone. */
export const timeText = (time) =>
  new Date(time).toLocaleString(language, { dateStyle: "medium", timeStyle: "long" });

/** Return what a token permits, as the signer told it at a time in milliseconds. */
export const permissionText = (found, asked) =>
  [
    text("permitted", { places: found.prefixes.join(", ") }),
    found.max_size === undefined ? "" : text("permittedSize", { size: bytesText(found.max_size) }),
    found.objects_left === undefined ? "" : text("permittedObjects", { count: found.objects_left }),
    found.bytes_left === undefined ? "" : text("permittedBytes", { size: bytesText(found.bytes_left) }),
    text(found.overwrite === false ? "permittedKept" : "permittedReplaced"),
    found.expires_in === undefined ? "" : text("permittedUntil", { time: timeText(asked + found.expires_in * 1000) }),
  ].join("");
