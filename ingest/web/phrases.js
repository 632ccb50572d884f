// What the page says, in every language it speaks. English stands in the page itself; here is what it is in others.
//
// `{}` stands for what changes, in the same order in every language.

/** By language, as its ISO 639-1 code: each phrase by its English one. */
export const PHRASES = {
  zh: {
    // The page.
    "Skeletons on live video": "实时视频中的人体骨架",
    "Ready": "就绪",
    "Picture": "画面",
    "The picture with the skeletons drawn on it": "画上骨架的画面",
    "See how people move": "看看人是怎么动的",
    "Start your webcam, or drop a picture or a video here.": "打开摄像头，或把图片、视频拖到这里。",
    "Start webcam": "打开摄像头",
    "Open a file": "打开文件",
    "Try the sample": "试试示例图片",
    "Picture or video": "图片或视频",
    "Try now": "立即重试",
    "Drop a picture or a video": "放下图片或视频",
    "Frames go only to this server, which keeps none of them.": "画面只发送到本服务器，服务器不会保存。",
    "Save picture": "保存图片",
    "Save poses": "保存姿态",
    "Pause": "暂停",
    "Stop": "停止",
    "Poses": "姿态",
    "As JSON": "JSON 格式",
    "Now": "当前",
    "Persons": "人数",
    "Latency": "延迟",
    "ms": "毫秒",
    "Frames sent": "发送帧率",
    "/s": "帧/秒",
    "Frames shown": "显示帧率",
    "Uplink": "上行",
    "Uplink, {}": "上行，{}",
    "In the server": "服务器耗时",
    "Dropped": "丢弃",
    "Settings": "设置",
    "Model": "模型",
    "Mode": "模式",
    "Live": "实时",
    "the newest frame wins": "只看最新的一帧",
    "Complete": "完整",
    "no frame is dropped": "一帧都不丢",
    "Mirror": "镜像",
    "the webcam": "摄像头画面",
    "Draw here": "在本页绘制",
    "only poses come back": "只传回姿态",
    "Quality": "画质",
    "Dropped frames": "丢弃的帧",
    "None so far": "目前没有",
    "Live streams": "实时视频流",
    "Nobody sends a stream now. Start your webcam, here or on another device.":
      "现在没有人发送视频流。请在本机或其他设备上打开摄像头。",
    "Add a camera": "添加网络摄像机",
    "Name": "名称",
    "door": "door",
    "Letters, digits, - and _": "字母、数字、- 和 _",
    "Address": "地址",
    "Add": "添加",
    "The server fetches it: RTSP with H.264, or Motion JPEG and single pictures over HTTP.":
      "由服务器取流：H.264 的 RTSP，或 HTTP 上的 Motion JPEG 和单张图片。",
    "Use it from a program": "在程序中使用",
    "In a web page:": "在网页中：",
    ", with": "，附有",
    "types": "类型定义",
    "and an": "和",
    "example": "示例",
    ", is what this page itself uses.": "，就是本页所用的模块。",
    "Poses of a picture, as JSON:": "以 JSON 返回图片中的姿态：",
    "The picture with the skeletons drawn on it:": "返回画上骨架的图片：",
    "Live: send one JPEG, PNG or WebP per binary message; for each frame comes a JSON message with the poses, then the annotated JPEG.":
      "实时：每条二进制消息发送一张 JPEG、PNG 或 WebP；每一帧先返回带姿态的 JSON 消息，再返回画好的 JPEG。",
    "Browse and try the API": "浏览并试用 API",
    ", whose description (": "，其描述（",
    "OpenAPI": "OpenAPI",
    ") programs can read.": "）可供程序读取。",
    "This server asks for a key": "本服务器需要密钥",
    "The server does not take this key, or takes it no more.": "服务器不接受此密钥，或密钥已失效。",
    "API key": "API 密钥",
    "Whoever runs the server has it. This tab forgets it when it is closed.": "请向服务器的管理者索取。关闭本标签页后即被忘记。",
    "Use this key": "使用此密钥",
    "Not now": "以后再说",
    "Show": "显示",
    "everything": "全部",
    "heads covered": "遮住头部",
    "skeletons only": "只显示骨架",
    "Remove the camera": "移除摄像机",
    "Close": "关闭",
    "The stream with the skeletons drawn on it": "画上骨架的视频流",
    "Many images, or videos": "批量处理图片或视频",
    "Drop a folder, images or videos here": "把文件夹、图片或视频拖到这里",
    "They are worked on while you do something else. Come back to this page for the results.":
      "处理期间您可以做别的事。稍后回到本页取结果。",
    "Choose files": "选择文件",
    "Choose a folder": "选择文件夹",
    "Images and videos": "图片和视频",
    "Frames of videos": "视频取帧",
    "All": "全部",
    "10 a second": "每秒 10 帧",
    "5 a second": "每秒 5 帧",
    "1 a second": "每秒 1 帧",
    "A folder": "文件夹",
    "Results": "结果",
    "Poses and annotated pictures": "姿态和画好的图片",
    "Hand in": "提交",
    "Cancel": "取消",
    "Sent": "已发送",
    "Try again": "重试",
    "Left out": "已略去",

    // Jobs.
    "Waiting": "等待中",
    "Working": "处理中",
    "Done": "已完成",
    "Images": "图片",
    "There is no image and no video among the files.": "这些文件中没有图片或视频。",
    "Images: {}, videos: {} ({} MB)": "图片：{} 张，视频：{} 个（{} MB）",
    "the video cannot be decoded": "视频无法解码",
    "Each video is a job of its own.": "每个视频是一个单独的任务。",
    "{} of {} frames": "帧 {} / {}",
    "Images: {} ({} MB)": "图片：{} 张（{} MB）",
    "Other files, which are left out: {}.": "略去其他文件 {} 个。",
    "They become several jobs, of {} images and {} MB at most.": "将分成多个任务，每个最多 {} 张图片、{} MB。",
    "Sending {}: {} of {} files, {} of {} MB": "正在发送 {}：文件 {} / {}，{} / {} MB",
    "the browser cannot read it": "浏览器无法读取",
    "{} of {} images": "图片 {} / {}",
    "{} failed": "{} 张失败",
    "kept until {}": "保存至 {}",
    "Failed: {}": "失败：{}",
    "Download results": "下载结果",
    "Show more": "显示更多",
    "Delete": "删除",
    "Delete for good": "确认删除",
    "Your key is not for jobs.": "您的密钥不能用于批量任务。",
    "The server does not have this model any more.": "服务器已不再提供此模型。",
    "You have as many jobs as you may have. Delete some, then try again.": "您的任务已达上限。请删除一些后重试。",
    "This server keeps no jobs: it was started without a place for them.": "本服务器不保存任务：启动时没有指定存放位置。",
    "The server has no room for more. Delete jobs, or come again later.": "服务器空间已满。请删除任务，或稍后再来。",

    // What goes on.
    "Webcam": "摄像头",
    "Waiting for the webcam": "等待摄像头",
    "Opening the video": "正在打开视频",
    "Reading the picture": "正在读取图片",
    "Looking for people": "正在找人",
    "Connecting": "正在连接",
    "Connecting again …": "正在重新连接……",
    "Reconnecting": "重新连接中",
    "The connection is lost.": "连接已断开。",
    "{} Trying again in {} s.": "{}{} 秒后重试。",
    "Paused": "已暂停",
    "Resume": "继续",
    "Finished": "已播完",
    "Stopped": "已停止",
    "Silent": "无画面",
    "Live, {} /s": "实时，{} 帧/秒",
    "{} watching": "{} 人观看",
    "{}: {}. Open large": "{}：{}。放大查看",
    "Nobody sends this stream now": "现在没有人发送这个视频流",
    "Connecting to the camera": "正在连接摄像机",
    "The camera is live": "摄像机工作正常",
    "The camera is away": "摄像机暂时不可用",
    "The camera needs somebody": "摄像机需要有人处理",

    // What was found.
    "Nothing found": "没有结果",
    "Nobody found": "没有找到人",
    "1 person found": "找到 1 人",
    "{} persons found": "找到 {} 人",
    "{}, {} sure": "{}，可信度 {}",
    "Person {}": "第 {} 人",
    "{} sure": "可信度 {}",
    "{} of {} joints": "可见关节 {} / {}",
    "Joint": "关节",
    "Score": "得分",
    "{} classes": "{} 个类别",
    "{} joints": "{} 个关节",
    "Fast": "快速",
    "Balanced": "均衡",
    "Accurate": "精确",
    "everybody at a glance, by MultiPose": "一眼找出所有人（MultiPose）",
    "everybody by MultiPose, each looked at again by Lightning": "先由 MultiPose 找出所有人，再由 Lightning 逐个细看",
    "everybody by MultiPose, each looked at closely by Thunder": "先由 MultiPose 找出所有人，再由 Thunder 逐个精看",
    "up to 6 people": "最多 6 人",
    "1 person, fastest": "1 人，最快",
    "1 person, most accurate": "1 人，最准",
    "what a picture shows: 1000 classes of ImageNet": "图片内容：ImageNet 的 1000 个类别",
    "nose": "鼻子",
    "left eye": "左眼",
    "right eye": "右眼",
    "left ear": "左耳",
    "right ear": "右耳",
    "left shoulder": "左肩",
    "right shoulder": "右肩",
    "left elbow": "左肘",
    "right elbow": "右肘",
    "left wrist": "左腕",
    "right wrist": "右腕",
    "left hip": "左髋",
    "right hip": "右髋",
    "left knee": "左膝",
    "right knee": "右膝",
    "left ankle": "左踝",
    "right ankle": "右踝",

    // Why a frame got no picture.
    "{} not sent, to keep up": "{} 帧未发送，以免积压",
    "replaced by a newer frame": "被更新的帧取代",
    "too old before it was done": "处理完之前已过期",
    "not a readable image": "不是可读的图片",
    "pose detection failed": "姿态检测失败",
    "drawing failed": "绘制失败",
    "done after a newer frame": "比更新的帧完成得晚",
    "the viewer had left": "观看者已离开",
    "lost inside the server": "在服务器内部丢失",
    "the server's queue was full": "服务器队列已满",
    "too large for the server": "超过服务器允许的大小",
    "the server's parts had lost each other": "服务器各部分之间失去联系",
    "the server was stopping": "服务器正在停止",
    "more than you may send": "超出您的配额",
    "lost with the connection": "随连接断开而丢失",

    // What is wrong, and what to do.
    "The server does not understand these settings.": "服务器不理解这些设置。",
    "The server did not understand a message of this page.": "服务器不理解本页面发出的一条消息。",
    "The server could not read a picture.": "服务器无法读取一张图片。",
    "The picture is too large for the server.": "图片超过服务器允许的大小。",
    "This device is too slow to take the pictures. Try a lower quality.": "本设备接收画面太慢。请降低画质。",
    "The server closed the connection because nothing was sent.": "长时间没有发送数据，服务器关闭了连接。",
    "The server is restarting.": "服务器正在重启。",
    "The server cannot work right now.": "服务器暂时无法工作。",
    "The server does not let this page in.": "服务器不允许本页面访问。",
    "Nobody sends this stream now.": "现在没有人发送这个视频流。",
    "The server reported an error.": "服务器报告了一个错误。",
    "The server cannot be reached.": "无法连接服务器。",
    "The server ended the session": "服务器结束了会话",
    "The server says: {}.": "服务器说明：{}。",
    "This picture got no result": "这张图片没有结果",
    "The sample did not come": "没有收到示例图片",
    "The server did not send it. Is it still running?": "服务器没有发送。它还在运行吗？",
    "The browser cannot open this file": "浏览器无法打开此文件",
    "{} is no picture (JPEG, PNG, WebP, …) and no video (MP4, WebM, …) that it knows.":
      "{} 不是浏览器认识的图片（JPEG、PNG、WebP 等）或视频（MP4、WebM 等）。",
    "The page stumbled": "页面出错了",
    "{}. Start again.": "{}。请重新开始。",
    "The webcam is gone": "摄像头已断开",
    "It was unplugged, or the browser took it back.": "摄像头被拔出，或被浏览器收回。",
    "The browser keeps the webcam from this address": "浏览器不允许此地址使用摄像头",
    "Webcams work only on https:// or on this very machine. Open the page as http://localhost:{}, or put it behind https. Pictures and videos work here too.":
      "只有 https:// 地址或本机才能使用摄像头。请用 http://localhost:{} 打开本页，或为服务器配置 https。图片和视频在这里也能用。",
    "The webcam is blocked": "摄像头被禁止",
    "Click the camera or lock symbol in the address bar, allow the camera for this page, then start the webcam again. If that does not help, look in the privacy settings of your system.":
      "请点击地址栏中的摄像头或锁形图标，允许本页面使用摄像头，然后重新打开。如果仍然不行，请检查系统的隐私设置。",
    "No webcam found": "没有找到摄像头",
    "Plug one in and start again, or open a picture or a video instead.": "请插入摄像头后重试，或改为打开图片、视频。",
    "The webcam is busy": "摄像头被占用",
    "Another program seems to use it. Close that program, then start the webcam again.":
      "似乎有其他程序正在使用它。请关闭该程序，然后重新打开摄像头。",
    "The webcam did not start": "摄像头没有启动",
    "The browser says: {}. Open a picture or a video instead.": "浏览器提示：{}。请改为打开图片或视频。",
  },
};

/** As pages are marked with it. */
const TAGS = { en: "en", zh: "zh-CN" };
/** What has words that people see or hear. */
const ATTRIBUTES = ["aria-label", "alt", "title", "placeholder"];

/** The first of the browser's languages that the page speaks. */
export function languageOf(languages) {
  return languages.map((tag) => tag.slice(0, 2).toLowerCase()).find((code) => code in TAGS) ?? "en";
}

const language = languageOf(globalThis.navigator?.languages ?? []);
const phrases = PHRASES[language] ?? {};

/** A text that came from elsewhere, in the browser's language if it is in the list. */
export function said(text) {
  return phrases[text] ?? text;
}

/** A phrase in the browser's language: say`Trying again in ${seconds} s.` */
export function say(parts, ...values) {
  const phrase = said(parts.join("{}"));
  return phrase.replaceAll("{}", () => values.shift());
}

/** The texts of a page, each with how to write it anew. Code is not among them. */
function* texts(root) {
  const walker = root.createTreeWalker(root.body, NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode;
    if (node.nodeType === Node.TEXT_NODE) {
      if (!node.parentElement.closest("code, pre, script, noscript")) yield [node.data, (text) => (node.data = text)];
      continue;
    }
    for (const name of ATTRIBUTES) {
      if (node.hasAttribute(name)) yield [node.getAttribute(name), (text) => node.setAttribute(name, text)];
    }
  }
}

/** Has a page as it was sent say everything in the browser's language. */
export function translate(root) {
  root.documentElement.lang = TAGS[language];
  for (const [text, write] of texts(root)) {
    const phrase = text.trim();
    if (phrase in phrases) write(text.replace(phrase, () => phrases[phrase]));
  }
}
