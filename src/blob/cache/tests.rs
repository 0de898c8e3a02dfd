use super::*;
use std::io::{Read, Write};

fn put(cache: &Arc<Cache>, bytes: &[u8]) -> Result<Digest, CacheError> {
    let digest = Digest::of(bytes);
    let mut writer = cache.writer()?;
    writer.write_all(bytes).map_err(|e| *e.into_inner().unwrap().downcast::<CacheError>().unwrap())?;
    writer.commit(digest)?;
    Ok(digest)
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_committed_blob_is_read_back_and_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Arc::new(Cache::open(dir.path(), 1000, "CACHE_MAX_BYTES").unwrap());
    let digest = put(&cache, b"layer").unwrap();
    for cache in [cache, Arc::new(Cache::open(dir.path(), 1000, "CACHE_MAX_BYTES").unwrap())] {
        let mut text = String::new();
        cache.open_blob(&digest).unwrap().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), cache.total_bytes()), ("layer", 5));
    }
}

#[test]
fn the_least_recently_used_blob_is_evicted_first_even_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Arc::new(Cache::open(dir.path(), 30, "CACHE_MAX_BYTES").unwrap());
    let [a, b, c] = [&[1; 10], &[2; 10], &[3; 10]].map(|bytes| put(&cache, bytes).unwrap());
    let hour = Duration::from_secs(3600);
    for (age, digest) in [(3, &a), (2, &b), (1, &c)] {
        let file = File::open(cache.path(digest)).unwrap();
        file.set_modified(SystemTime::now() - age * hour).unwrap();
    }
    let cache = Arc::new(Cache::open(dir.path(), 30, "CACHE_MAX_BYTES").unwrap());
    assert!(cache.open_blob(&a).unwrap().is_some());
    let cache = Arc::new(Cache::open(dir.path(), 30, "CACHE_MAX_BYTES").unwrap());
    let d = put(&cache, &[4; 10]).unwrap();
    assert_eq!([a, b, c, d].map(|d| cache.open_blob(&d).unwrap().is_some()), [true, false, true, true]);
    assert_eq!(cache.total_bytes(), 30);
    let smaller = Cache::open(dir.path(), 10, "CACHE_MAX_BYTES").unwrap();
    assert_eq!((smaller.total_bytes(), names(dir.path()).len()), (10, 1));
}

#[test]
fn a_blob_larger_than_the_cache_is_refused_as_soon_as_it_is_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Arc::new(Cache::open(dir.path(), 100, "CACHE_MAX_BYTES").unwrap());
    let kept = put(&cache, &[1; 60]).unwrap();
    let mut writer = cache.writer().unwrap();
    writer.write_all(&[0; 100]).unwrap();
    let error = writer.write_all(&[0; 1]).unwrap_err();
    assert!(error.to_string().contains("CACHE_MAX_BYTES"), "{error}");
    drop(writer);
    assert!(names(dir.path()).is_empty(), "the unfinished blob needed the room of the other");
    assert!(cache.open_blob(&kept).unwrap().is_none());
    assert_eq!((cache.total_bytes(), cache.unfinished.load(Ordering::Relaxed)), (0, 0));
}

#[test]
fn what_was_just_committed_together_is_not_evicted() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Arc::new(Cache::open(dir.path(), 100, "CACHE_MAX_BYTES").unwrap());
    let old = put(&cache, &[9; 30]).unwrap();
    let blobs: Vec<_> = (0..5u8)
        .map(|n| {
            let mut writer = cache.writer().unwrap();
            writer.write_all(&[n; 20]).unwrap();
            (Digest::of(&[n; 20]), writer.finish())
        })
        .collect();
    let digests: Vec<_> = blobs.iter().map(|(digest, _)| *digest).collect();
    cache.commit_all(blobs).unwrap();
    assert!(digests.iter().all(|d| cache.contains(d)) && !cache.contains(&old));
    assert_eq!((cache.total_bytes(), names(dir.path()).len()), (100, 5));
}

#[test]
fn what_a_crash_left_unfinished_is_deleted_at_the_start_and_strangers_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(".unfinished-7"), "half").unwrap();
    fs::write(dir.path().join("README"), "mine").unwrap();
    let cache = Cache::open(dir.path(), 100, "CACHE_MAX_BYTES").unwrap();
    assert_eq!((names(dir.path()), cache.total_bytes()), (vec!["README".to_owned()], 0));
}

#[test]
fn a_blob_deleted_behind_the_caches_back_is_absent_not_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Arc::new(Cache::open(dir.path(), 100, "CACHE_MAX_BYTES").unwrap());
    let digest = put(&cache, b"x").unwrap();
    fs::remove_file(cache.path(&digest)).unwrap();
    assert_eq!(put(&cache, b"x").unwrap(), digest);
    assert!(cache.open_blob(&digest).unwrap().is_some());
    fs::remove_file(cache.path(&digest)).unwrap();
    assert!(cache.open_blob(&digest).unwrap().is_none());
    assert_eq!(cache.total_bytes(), 0);
    cache.remove(&digest).unwrap();
}

#[test]
fn several_threads_may_write_read_and_evict_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Arc::new(Cache::open(dir.path(), 4096, "CACHE_MAX_BYTES").unwrap());
    std::thread::scope(|scope| {
        for thread in 0..4u8 {
            let cache = &cache;
            scope.spawn(move || {
                for n in 0..40u8 {
                    let digest = put(cache, &[thread * 16 + n % 16; 200]).unwrap();
                    let _ = cache.open_blob(&digest).unwrap();
                }
            });
        }
    });
    assert!(cache.total_bytes() <= 4096);
    assert_eq!(names(dir.path()).len() as u64 * 200, cache.total_bytes());
}
