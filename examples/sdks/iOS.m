// One entry of a URL map on iOS; `client` is the app's OSSClient. Nil if it cannot sign.
NSData *entry(OSSClient *client, NSString *bucket, NSString *key, NSString *type) {
    OSSTask *task = [client presignConstrainURLWithBucketName:bucket
                                                withObjectKey:key
                                                   httpMethod:@"PUT"
                                       withExpirationInterval:30 * 60
                                               withParameters:@{}
                                                  contentType:type
                                                   contentMd5:nil];
    [task waitUntilFinished];
    if (task.error) return nil;
    // A bare plus would be read as a blank.
    NSString *url = [task.result stringByReplacingOccurrencesOfString:@"+" withString:@"%2B"];
    return [NSJSONSerialization dataWithJSONObject:@{
        @"path": [NSString stringWithFormat:@"%@/%@", bucket, key],
        @"url": url,
        @"headers": @{@"Content-Type": type},
    } options:0 error:nil];
}
