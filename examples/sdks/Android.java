// One entry of a URL map on Android; `oss` is the app's OSSClient.
static String entry(OSS oss, String bucket, String key, String type) throws ClientException, JSONException {
    GeneratePresignedUrlRequest request = new GeneratePresignedUrlRequest(bucket, key);
    request.setMethod(HttpMethod.PUT);
    request.setExpiration(30 * 60); // seconds, not a date as in the Java SDK
    request.setContentType(type);
    return new JSONObject()
        .put("path", bucket + "/" + key)
        .put("url", oss.presignConstrainedObjectURL(request))
        .put("headers", new JSONObject().put("Content-Type", type))
        .toString();
}
